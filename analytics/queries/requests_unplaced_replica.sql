-- requests_unplaced_replica: one replica (or none) that answered requests in one range of time without an inventory row then
-- An inventory row without an end ends where the replica's next one begins.
WITH inventory AS (
    SELECT
        replica,
        valid_from,
        coalesce(valid_to, lead(valid_from) OVER (PARTITION BY replica ORDER BY valid_from)) AS valid_to
    FROM replicas
)
SELECT
    requests.replica,
    count(*) AS requests_count
FROM requests
WHERE requests.started_at >= $start::TIMESTAMP
    AND requests.started_at < $end::TIMESTAMP
    AND NOT EXISTS (
        SELECT 1
        FROM inventory
        WHERE inventory.replica = requests.replica
            AND inventory.valid_from <= requests.started_at
            AND (inventory.valid_to IS NULL OR inventory.valid_to > requests.started_at)
    )
GROUP BY requests.replica
ORDER BY requests.replica
