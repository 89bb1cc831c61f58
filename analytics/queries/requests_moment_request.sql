-- requests_moment_request: one request of one range of time, and the microsecond in which it began
-- $start, $end: the range of arrivals. In no order.
SELECT epoch_us(started_at) AS started_us
FROM requests
WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
