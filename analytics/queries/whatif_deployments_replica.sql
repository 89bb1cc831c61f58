-- whatif_deployments_replica: one replica, its deployment and GPUs as last known in one range of time
-- $start, $end: range that its inventory touches.
SELECT
    replica,
    arg_max(deployment, valid_from) AS deployment,
    coalesce(arg_max(gpu_count, valid_from), 1)::INTEGER AS gpu_count
FROM replicas
WHERE valid_from < $end::TIMESTAMP
    AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
GROUP BY replica
ORDER BY replica
