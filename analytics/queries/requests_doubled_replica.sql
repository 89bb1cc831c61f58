-- requests_doubled_replica: one replica of one range of time that has requests twice under different span ids
-- The same trace arriving at the same replica in the same microsecond: one request that two instruments reported. Few requests share
-- a microsecond, so those that do are found first, and only their texts are read. Ask day by day where there are many.
WITH moments AS (
    SELECT started_at
    FROM requests
    WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
    GROUP BY started_at
    HAVING count(*) > 1
)
SELECT replica, sum(copies_count - 1)::BIGINT AS doubled_count
FROM (
    SELECT any_value(requests.replica) AS replica, count(*) AS copies_count
    FROM requests
    INNER JOIN moments ON requests.started_at = moments.started_at
    WHERE requests.started_at >= $start::TIMESTAMP
        AND requests.started_at < $end::TIMESTAMP
        AND ($known_at::TIMESTAMP IS NULL OR requests.received_at IS NULL OR requests.received_at <= $known_at::TIMESTAMP)
    GROUP BY hash(requests.replica, requests.trace_id, requests.started_at)
    HAVING count(*) > 1
)
GROUP BY replica
ORDER BY replica
