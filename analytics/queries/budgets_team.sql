-- budgets_team: one team's budget of one month and currency; several entries of a team add up
SELECT team, currency, sum(amount_units)::BIGINT AS budget_units
FROM budgets
WHERE month = $month::DATE
GROUP BY team, currency
ORDER BY team, currency
