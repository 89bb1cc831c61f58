-- requests_moment_request: one request of one range of time, and a hash of where and when it began
-- $start, $end: the range of arrivals. In no order.
SELECT hash(replica, started_at) AS moment_hash
FROM requests
WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
