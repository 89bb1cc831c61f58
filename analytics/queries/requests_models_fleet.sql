-- requests_models_fleet: one model that any request named; requests without one are 'unknown'
SELECT DISTINCT coalesce(model, 'unknown') AS model
FROM requests
WHERE $since::TIMESTAMP IS NULL OR coalesce(ended_at, started_at) >= $since::TIMESTAMP
ORDER BY model
