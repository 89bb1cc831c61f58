-- cost_owners_replica: one replica with an owner in one interval of time
-- $start, $end: range that the interval touches.
SELECT replica, owner, valid_from, valid_to
FROM replicas
WHERE owner IS NOT NULL
    AND valid_from < $end::TIMESTAMP
    AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
ORDER BY replica, valid_from
