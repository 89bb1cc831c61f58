-- replicas_inventory_interval: one interval of one replica that touches one range of time, as it was known at one time
-- A restatement replaces the interval of the same start. An interval without an end ends where the replica's next one begins.
-- Without $known_at: as known now.
WITH told AS (
    SELECT
        replica, valid_from, valid_to, model, provider, region, purchase_type, gpu_type, gpu_count, deployment, owner,
        known_from, '' AS restatement_id, false AS withdrawn
    FROM replicas
    UNION ALL
    SELECT
        replica, valid_from, valid_to, model, provider, region, purchase_type, gpu_type, gpu_count, deployment, owner,
        known_from, restatement_id, coalesce(withdrawn, false)
    FROM replica_restatements
),
latest AS (
    SELECT
        * REPLACE (
            coalesce(
                deployment, max(deployment) FILTER (WHERE restatement_id = '') OVER (PARTITION BY replica, valid_from)
            ) AS deployment
        )
    FROM told
    WHERE $known_at::TIMESTAMP IS NULL OR known_from IS NULL OR known_from <= $known_at::TIMESTAMP
    QUALIFY row_number() OVER (
        PARTITION BY replica, valid_from
        ORDER BY restatement_id = '', known_from DESC NULLS LAST, restatement_id DESC
    ) = 1
),
inventory AS (
    SELECT
        * REPLACE (
            coalesce(valid_to, lead(valid_from) OVER (PARTITION BY replica ORDER BY valid_from)) AS valid_to
        )
    FROM latest
    WHERE NOT withdrawn
)
SELECT replica, valid_from, valid_to, model, provider, region, purchase_type, gpu_type, gpu_count, deployment, owner
FROM inventory
WHERE valid_from < $end::TIMESTAMP
    AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
ORDER BY replica, valid_from
