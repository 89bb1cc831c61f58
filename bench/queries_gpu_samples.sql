-- one sample of every GPU of the made fleet each half minute, in order of time
INSERT INTO gpu_samples (
    gpu_uuid, sampled_at, gpu_index, gpu_type, host, replica, cluster, power_watts, utilization_ratio, sm_active_ratio
)
SELECT
    'GPU-' || replica,
    TIMESTAMP '2026-10-01' + to_seconds(step * 30),
    0,
    'H100-SXM5-80GB',
    'host',
    'replica-' || replica,
    'eu-1',
    300 + (step * 31 + replica) % 400,
    0.9,
    (step * 17 + replica) % 100 / 100.0
FROM range($steps::BIGINT) AS steps(step)
CROSS JOIN range(24) AS replicas(replica)
ORDER BY 2, 1
