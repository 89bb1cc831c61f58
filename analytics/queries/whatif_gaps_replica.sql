-- whatif_gaps_replica: one stretch of one replica without a request in the engine, with the length of the work before it
-- $start, $end: range; its ends count as ends of work. $replicas, $begins, $ends: the replicas, and from when to when of the
-- range each was in the inventory; others are left out.
-- last: nothing came after it within the range.
WITH inventory AS (
    SELECT
        unnest($replicas::VARCHAR[]) AS replica,
        unnest($begins::TIMESTAMP[]) AS begins,
        unnest($ends::TIMESTAMP[]) AS ends
),
spans AS (
    SELECT
        replica,
        greatest(started_at, $start::TIMESTAMP) AS begins,
        least(
            coalesce(ended_at, started_at + to_microseconds((coalesce(e2e_seconds, 0) * 1000000)::BIGINT)), $end::TIMESTAMP
        ) AS ends
    FROM requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND outcome <> 'rejected'
        AND replica IS NOT NULL
    UNION ALL
    SELECT replica, begins, begins AS ends
    FROM inventory
),
reach AS (
    SELECT
        replica,
        begins,
        ends,
        max(ends) OVER (PARTITION BY replica ORDER BY begins, ends ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM spans
),
islands AS (
    SELECT *, sum(CASE WHEN before IS NULL OR begins > before THEN 1 ELSE 0 END) OVER (PARTITION BY replica ORDER BY begins, ends) AS island
    FROM reach
),
work AS (
    SELECT replica, island, min(begins) AS begins, max(ends) AS ends
    FROM islands
    GROUP BY replica, island
)
SELECT
    work.replica,
    greatest(
        epoch_us(coalesce(lead(work.begins) OVER (PARTITION BY work.replica ORDER BY work.begins), inventory.ends)) - epoch_us(work.ends),
        0
    ) / 1e6 AS gap_seconds,
    (epoch_us(work.ends) - epoch_us(work.begins)) / 1e6 AS busy_seconds,
    lead(work.begins) OVER (PARTITION BY work.replica ORDER BY work.begins) IS NULL AS last
FROM work
INNER JOIN inventory ON work.replica = inventory.replica
ORDER BY work.replica, work.begins
