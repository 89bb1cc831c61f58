-- budgets_known_budget: one budget by its first id, its rows added up
SELECT
    regexp_replace(budget_id, '~\d+$', '') AS budget_id,
    any_value(team) AS team,
    any_value(app) AS app,
    any_value(model) AS model,
    any_value(month) AS month,
    any_value(currency) AS currency,
    sum(amount_units)::BIGINT AS amount_units,
    count(*) AS versions_count
FROM budgets
GROUP BY ALL
ORDER BY budget_id
