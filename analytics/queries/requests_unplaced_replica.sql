-- requests_unplaced_replica: one replica (or none) that answered requests in one range of time without an inventory row then
SELECT
    requests.replica,
    count(*) AS requests_count
FROM requests
WHERE requests.started_at >= $start::TIMESTAMP
    AND requests.started_at < $end::TIMESTAMP
    AND NOT EXISTS (
        SELECT 1
        FROM replicas
        WHERE replicas.replica = requests.replica
            AND replicas.valid_from <= requests.started_at
            AND (replicas.valid_to IS NULL OR replicas.valid_to > requests.started_at)
    )
GROUP BY requests.replica
ORDER BY requests.replica
