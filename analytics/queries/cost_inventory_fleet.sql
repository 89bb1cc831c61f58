-- cost_inventory_fleet: the moment at which the inventory begins, as it was known at one time; null without one
-- Without $known_at: as known now. A restatement replaces the row of the same start.
WITH told AS (
    SELECT replica, valid_from, known_from, '' AS restatement_id, false AS withdrawn
    FROM replicas
    UNION ALL
    SELECT replica, valid_from, known_from, restatement_id, coalesce(withdrawn, false)
    FROM replica_restatements
),
latest AS (
    SELECT *
    FROM told
    WHERE $known_at::TIMESTAMP IS NULL OR known_from IS NULL OR known_from <= $known_at::TIMESTAMP
    QUALIFY row_number() OVER (
        PARTITION BY replica, valid_from
        ORDER BY restatement_id = '', known_from DESC NULLS LAST, restatement_id DESC
    ) = 1
)
SELECT min(valid_from) AS first_at
FROM latest
WHERE NOT withdrawn
