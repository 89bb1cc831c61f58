-- requests_unplaced_replica: one replica (or none) that answered requests in one range of time without an inventory row then
-- Inventory and requests as they were known at $known_at, without it as known now; as in replicas_inventory_interval.sql a
-- restatement replaces the interval of the same start, and one without an end ends where the replica's next one begins.
WITH told AS (
    SELECT replica, valid_from, valid_to, known_from, '' AS restatement_id, false AS withdrawn
    FROM replicas
    UNION ALL
    SELECT replica, valid_from, valid_to, known_from, restatement_id, coalesce(withdrawn, false)
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
),
inventory AS (
    SELECT
        replica,
        valid_from,
        coalesce(valid_to, lead(valid_from) OVER (PARTITION BY replica ORDER BY valid_from)) AS valid_to
    FROM latest
    WHERE NOT withdrawn
),
-- Most replicas are there all the time, in rows that adjoin each other: their requests need no look one by one.
islands AS (
    SELECT
        replica,
        valid_from,
        coalesce(valid_to, $end::TIMESTAMP) AS valid_to,
        max(coalesce(valid_to, $end::TIMESTAMP)) OVER (
            PARTITION BY replica ORDER BY valid_from ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS held_to
    FROM inventory
    WHERE valid_to IS NULL OR valid_to > $start::TIMESTAMP
),
always AS (
    SELECT replica
    FROM islands
    GROUP BY replica
    HAVING min(valid_from) <= $start::TIMESTAMP
        AND max(valid_to) >= $end::TIMESTAMP
        AND NOT bool_or(coalesce(valid_from > held_to AND valid_from < $end::TIMESTAMP, false))
),
answering AS MATERIALIZED (
    SELECT DISTINCT replica
    FROM requests
    WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
),
doubtful AS (
    SELECT replica
    FROM answering
    WHERE NOT EXISTS (SELECT 1 FROM always WHERE always.replica = answering.replica)
)
SELECT
    requests.replica,
    count(*) AS requests_count
FROM doubtful
JOIN requests ON requests.replica IS NOT DISTINCT FROM doubtful.replica
WHERE requests.started_at >= $start::TIMESTAMP
    AND requests.started_at < $end::TIMESTAMP
    AND ($known_at::TIMESTAMP IS NULL OR requests.received_at IS NULL OR requests.received_at <= $known_at::TIMESTAMP)
    AND NOT EXISTS (
        SELECT 1
        FROM inventory
        WHERE inventory.replica = requests.replica
            AND inventory.valid_from <= requests.started_at
            AND (inventory.valid_to IS NULL OR inventory.valid_to > requests.started_at)
    )
GROUP BY requests.replica
ORDER BY requests.replica
