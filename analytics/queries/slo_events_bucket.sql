-- slo_events_bucket: one bucket of time of one SLO and model; events and bad events, by the moment the request ended
-- Buckets are aligned to the epoch; those without events are left out. $start inclusive, $now exclusive.
WITH events AS (
    SELECT
        time_bucket(
            to_seconds($bucket_seconds::BIGINT), coalesce(ended_at, started_at), TIMESTAMP '1970-01-01'
        ) AS bucket_at,
        CASE $sli::VARCHAR
            WHEN 'availability' THEN service_failed
            WHEN 'ttft' THEN CASE WHEN outcome = 'ok' THEN ttft_seconds > $threshold_seconds::DOUBLE END
            WHEN 'tpot' THEN CASE WHEN outcome = 'ok' THEN tpot_seconds > $threshold_seconds::DOUBLE END
            WHEN 'e2e' THEN CASE WHEN outcome = 'ok' THEN e2e_seconds > $threshold_seconds::DOUBLE END
        END AS bad
    FROM judged_requests
    WHERE coalesce(ended_at, started_at) >= $start::TIMESTAMP
        AND coalesce(ended_at, started_at) < $now::TIMESTAMP
        AND coalesce(model, 'unknown') = $model::VARCHAR
        AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
)
SELECT
    bucket_at,
    count(bad) AS events_count,
    count(*) FILTER (WHERE bad) AS bad_count
FROM events
GROUP BY bucket_at
HAVING count(bad) > 0
ORDER BY bucket_at
