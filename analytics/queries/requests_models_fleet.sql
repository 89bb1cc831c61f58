-- requests_models_fleet: one model that a request of a range of time was for, by its end; those without one are 'unknown'
-- $since (inclusive) and $until (exclusive) may be null: no limit.
SELECT DISTINCT coalesce(model, 'unknown') AS model
FROM requests
WHERE ($since::TIMESTAMP IS NULL OR coalesce(ended_at, started_at) >= $since::TIMESTAMP)
    AND ($until::TIMESTAMP IS NULL OR coalesce(ended_at, started_at) < $until::TIMESTAMP)
ORDER BY model
