-- telemetry_last_replica: one replica; when each kind of telemetry of it was last seen, and whether its scrape works
-- Points older than the newest day are read of those series alone that may have the last word: of replicas silent since.
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
newest AS (
    SELECT max(observed_at) - INTERVAL 1 DAY AS lately_from
    FROM metric_points
    WHERE observed_at < $now::TIMESTAMP
),
lately AS (
    SELECT
        points.series_id,
        any_value(series.replica) AS replica,
        any_value(series.name) AS name,
        max(points.observed_at) AS last_at,
        arg_max(points.value, points.observed_at) AS last_value
    FROM metric_points AS points
    INNER JOIN metric_series AS series ON points.series_id = series.series_id
    WHERE series.replica IS NOT NULL
        AND points.observed_at >= (SELECT lately_from FROM newest)
        AND points.observed_at < $now::TIMESTAMP
    GROUP BY points.series_id
),
silent AS (
    SELECT series_id, replica, name
    FROM metric_series
    WHERE replica IS NOT NULL
        AND (
            replica NOT IN (SELECT replica FROM lately)
            OR (name = 'up' AND replica NOT IN (SELECT replica FROM lately WHERE name = 'up'))
        )
),
long_ago AS (
    SELECT
        points.series_id,
        any_value(silent.replica) AS replica,
        any_value(silent.name) AS name,
        max(points.observed_at) AS last_at,
        arg_max(points.value, points.observed_at) AS last_value
    FROM metric_points AS points
    INNER JOIN silent ON points.series_id = silent.series_id
    WHERE points.observed_at < (SELECT lately_from FROM newest)
    GROUP BY points.series_id
),
scraped AS (
    SELECT
        replica,
        max(last_at) AS last_metric_at,
        arg_max(last_value, last_at) FILTER (WHERE name = 'up') AS up
    FROM (SELECT * FROM lately UNION ALL SELECT * FROM long_ago) AS by_series
    GROUP BY replica
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
