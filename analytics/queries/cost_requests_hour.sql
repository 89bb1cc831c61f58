-- cost_requests_hour: one hour in which requests arrived, and how many
-- $start, $end: range of arrivals.
SELECT date_trunc('hour', started_at) AS hour_at, count(*) AS requests_count
FROM requests
WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
GROUP BY ALL
ORDER BY ALL
