-- cost_served_sign: one moment of one replica, and when the first request after it came into the engine and was served
-- $replicas, $moments: parallel lists. $end: requests before then. $known_at: requests received by then; null is all.
WITH moments AS (
    SELECT DISTINCT unnest($replicas::VARCHAR[]) AS replica, unnest($moments::TIMESTAMP[]) AS sign_at
),
-- A request may have waited since before a moment and entered after it: what counts is when it ended, if it says.
under_way AS (
    SELECT replica, started_at, ended_at, queue_seconds, outcome, output_tokens, received_at
    FROM requests
    WHERE ended_at >= (SELECT min(sign_at) FROM moments) AND started_at < $end::TIMESTAMP
    UNION ALL
    SELECT replica, started_at, ended_at, queue_seconds, outcome, output_tokens, received_at
    FROM requests
    WHERE ended_at IS NULL AND started_at < $end::TIMESTAMP
),
candidates AS (
    SELECT
        replica,
        least(
            started_at + to_microseconds(
                (CASE WHEN isfinite(queue_seconds) THEN least(greatest(queue_seconds, 0), 1e6) ELSE 0 END * 1000000)::BIGINT
            ),
            ended_at
        ) AS entered_at
    FROM under_way
    WHERE replica IN (SELECT replica FROM moments)
        AND outcome NOT IN ('rejected', 'engine_dead')
        AND (outcome = 'ok' OR coalesce(output_tokens, 1) > 0)
        AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
)
SELECT moments.replica, moments.sign_at, candidates.entered_at AS served_at
FROM moments
ASOF JOIN candidates ON moments.replica = candidates.replica AND candidates.entered_at >= moments.sign_at
ORDER BY ALL
