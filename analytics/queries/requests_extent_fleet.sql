-- requests_extent_fleet: one row: the first and the last arrival, and the models that requests were for; nulls where there is no request
-- Those without a model are 'unknown'.
SELECT
    min(started_at) AS first_started_at,
    max(started_at) AS last_started_at,
    (
        SELECT list(named.model ORDER BY named.model)
        FROM (SELECT DISTINCT coalesce(model, 'unknown') AS model FROM requests) AS named
    ) AS models
FROM requests
