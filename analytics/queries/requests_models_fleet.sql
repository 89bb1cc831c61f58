-- requests_models_fleet: one model that a request of a range of time was for, by its end; those without one are 'unknown'
-- $since is inclusive, $until exclusive.
SELECT DISTINCT coalesce(model, 'unknown') AS model
FROM requests
WHERE coalesce(ended_at, started_at) >= $since::TIMESTAMP
    AND coalesce(ended_at, started_at) < $until::TIMESTAMP
ORDER BY model
