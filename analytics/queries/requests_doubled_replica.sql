-- requests_doubled_replica: one replica of one range of time that has requests twice under different span ids
-- The same trace arriving at the same replica in the same microsecond: one request that two instruments reported.
-- $moments: those hashes of requests_moment_request that more than one request has; only theirs are compared.
SELECT replica, sum(copies_count - 1)::BIGINT AS doubled_count
FROM (
    SELECT replica, count(*) AS copies_count
    FROM requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND hash(replica, started_at) IN (SELECT unnest($moments::UBIGINT[]))
        AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
    GROUP BY replica, trace_id, started_at
    HAVING count(*) > 1
)
GROUP BY replica
ORDER BY replica
