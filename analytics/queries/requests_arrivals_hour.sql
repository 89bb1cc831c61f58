-- requests_arrivals_hour: one hour in which requests arrived: how many, what tells whether they are the same as before, when they ended
-- Hours from $start to $end, and those of which some requests ended in it (a request without an end is taken at its start).
-- Rows land once and don't change, so count and sum of times of receipt change whenever a set of requests does.
SELECT
    hour_at,
    sum(requests_count)::BIGINT AS requests_count,
    sum(received_sum)::BIGINT AS received_sum,
    min(first_event_at) AS first_event_at,
    max(last_event_at) AS last_event_at
FROM request_arrivals
GROUP BY hour_at
HAVING (hour_at >= date_trunc('hour', $start::TIMESTAMP) OR max(last_event_at) >= $start::TIMESTAMP)
    AND (hour_at < $end::TIMESTAMP OR min(first_event_at) < $end::TIMESTAMP)
ORDER BY hour_at
