-- requests_skewed_replica: one replica whose requests of one range of time carry times that can't be: its clock is off
-- ahead_count: started over five minutes after they were received. backwards_count: ended before they started.
SELECT
    replica,
    count(*) FILTER (WHERE started_at > received_at + INTERVAL 5 MINUTE) AS ahead_count,
    count(*) FILTER (WHERE ended_at < started_at) AS backwards_count
FROM requests
WHERE started_at >= $start::TIMESTAMP
    AND started_at < $end::TIMESTAMP
    AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
    AND (started_at > received_at + INTERVAL 5 MINUTE OR ended_at < started_at)
GROUP BY replica
ORDER BY replica
