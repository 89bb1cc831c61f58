-- budgets_scope: the budget of one team, app and model (null: any) for one month and currency; several entries of one add up
SELECT team, app, model, currency, sum(amount_units)::BIGINT AS budget_units
FROM budgets
WHERE month = $month::DATE
GROUP BY team, app, model, currency
ORDER BY team, app, model, currency
