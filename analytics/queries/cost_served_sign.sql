-- cost_served_sign: one moment of one replica, and when the first request after it came into the engine and was served
-- $replicas, $moments: parallel lists. $end: requests before then. $known_at: requests received by then; null is all.
WITH moments AS (
    SELECT DISTINCT unnest($replicas::VARCHAR[]) AS replica, unnest($moments::TIMESTAMP[]) AS sign_at
),
candidates AS (
    SELECT
        replica,
        started_at + to_microseconds(
            (CASE WHEN isfinite(queue_seconds) THEN least(greatest(queue_seconds, 0), 1e6) ELSE 0 END * 1000000)::BIGINT
        ) AS entered_at
    FROM requests
    WHERE started_at >= (SELECT min(sign_at) FROM moments)
        AND started_at < $end::TIMESTAMP
        AND replica IN (SELECT replica FROM moments)
        AND outcome NOT IN ('rejected', 'engine_dead')
        AND (outcome = 'ok' OR coalesce(output_tokens, 1) > 0)
        AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
)
SELECT moments.replica, moments.sign_at, candidates.entered_at AS served_at
FROM moments
ASOF JOIN candidates ON moments.replica = candidates.replica AND candidates.entered_at >= moments.sign_at
ORDER BY ALL
