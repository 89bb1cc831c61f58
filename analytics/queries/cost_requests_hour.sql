-- cost_requests_hour: one hour in which requests arrived: how many, what tells whether they are the same as before, their last end
-- $start, $end: range of arrivals. Hours before it are those of which some requests were under way at $start (or ended then).
-- Rows land once and don't change, so count and sum of times of receipt change whenever a set of requests does.
SELECT
    hour_at,
    sum(requests_count)::BIGINT AS requests_count,
    sum(received_sum)::BIGINT AS received_sum,
    max(last_end_at) AS last_end_at
FROM request_arrivals
WHERE hour_at < $end::TIMESTAMP
    AND (hour_at >= date_trunc('hour', $start::TIMESTAMP) OR last_end_at >= $start::TIMESTAMP)
GROUP BY hour_at
ORDER BY hour_at
