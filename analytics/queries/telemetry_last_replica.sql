-- telemetry_last_replica: one replica; when each kind of telemetry of it was last seen, and whether its scrape works
WITH answered AS (
    SELECT replica, max(started_at) AS last_request_at
    FROM requests
    WHERE replica IS NOT NULL AND started_at < $now::TIMESTAMP
    GROUP BY replica
),
sampled AS (
    SELECT replica, max(sampled_at) AS last_gpu_sample_at
    FROM gpu_samples
    WHERE replica IS NOT NULL AND sampled_at < $now::TIMESTAMP
    GROUP BY replica
),
scraped AS (
    SELECT
        series.replica,
        max(points.observed_at) AS last_metric_at,
        arg_max(points.value, points.observed_at) FILTER (WHERE series.name = 'up') AS up
    FROM metric_points AS points
    INNER JOIN metric_series AS series ON points.series_id = series.series_id
    WHERE series.replica IS NOT NULL AND points.observed_at < $now::TIMESTAMP
    GROUP BY series.replica
),
inventory AS (
    SELECT replica, arg_max(model, valid_from) AS model
    FROM replicas
    WHERE valid_from <= $now::TIMESTAMP AND (valid_to IS NULL OR valid_to > $now::TIMESTAMP)
    GROUP BY replica
)
SELECT
    replica,
    inventory.model,
    inventory.replica IS NOT NULL AS in_inventory,
    answered.last_request_at,
    scraped.last_metric_at,
    sampled.last_gpu_sample_at,
    scraped.up
FROM inventory
FULL JOIN answered USING (replica)
FULL JOIN sampled USING (replica)
FULL JOIN scraped USING (replica)
ORDER BY replica
