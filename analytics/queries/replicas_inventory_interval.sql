-- replicas_inventory_interval: one interval of one replica that touches one range of time
-- An interval without an end ends where the replica's next one begins.
WITH inventory AS (
    SELECT
        * REPLACE (
            coalesce(valid_to, lead(valid_from) OVER (PARTITION BY replica ORDER BY valid_from)) AS valid_to
        )
    FROM replicas
)
SELECT replica, valid_from, valid_to, model, provider, region, purchase_type, gpu_type, gpu_count
FROM inventory
WHERE valid_from < $end::TIMESTAMP
    AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
ORDER BY replica, valid_from
