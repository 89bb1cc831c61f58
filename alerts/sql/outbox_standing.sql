-- How each receiver's messages stand.
SELECT
    receiver,
    count(*) FILTER (WHERE status = 'pending') AS pending_count,
    count(*) FILTER (WHERE status = 'delivered') AS delivered_count,
    count(*) FILTER (WHERE status = 'dead') AS dead_count,
    count(*) FILTER (WHERE status = 'dead' AND finished_at >= $dead_since) AS dead_lately_count,
    min(created_at) FILTER (WHERE status = 'pending') AS oldest_pending_at,
    max(finished_at) FILTER (WHERE status = 'delivered') AS last_delivered_at
FROM outbox
GROUP BY receiver
ORDER BY receiver
