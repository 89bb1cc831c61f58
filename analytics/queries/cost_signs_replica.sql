-- cost_signs_replica: one sign that one replica went down, came up or was ready, at one time
-- $start, $end: range of the signs. kind: restarted and ready from events; xid from events and GPU samples, with its code where
-- it is known; died: a request ended because the engine was dead.
-- $known_at: events and requests received by then; null is all (samples do not say when they were received).
SELECT
    replica,
    occurred_at AS sign_at,
    CASE kind WHEN 'restart' THEN 'restarted' ELSE kind END AS kind,
    title,
    try_cast(coalesce(attributes['xid'], attributes['gpu.xid']) AS INTEGER) AS xid
FROM events
WHERE kind IN ('xid', 'restart', 'ready')
    AND replica IS NOT NULL
    AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
    AND occurred_at >= $start::TIMESTAMP
    AND occurred_at < $end::TIMESTAMP
UNION ALL
SELECT replica, min(sampled_at), 'xid', NULL, xid
FROM gpu_samples
WHERE xid IS NOT NULL AND replica IS NOT NULL AND sampled_at >= $start::TIMESTAMP AND sampled_at < $end::TIMESTAMP
GROUP BY replica, xid, date_trunc('minute', sampled_at)
UNION ALL
SELECT replica, coalesce(ended_at, started_at) AS sign_at, 'died', NULL, NULL
FROM requests
WHERE outcome = 'engine_dead'
    AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
    AND replica IS NOT NULL
    AND started_at >= $start::TIMESTAMP
    AND started_at < $end::TIMESTAMP
GROUP BY replica, coalesce(ended_at, started_at)
ORDER BY ALL
