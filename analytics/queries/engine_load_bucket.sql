-- engine_load_bucket: one bucket of time; KV cache, batch and queue of the engines, activity and power of the GPUs
-- Within a bucket each series is averaged first, then replicas are added (running, waiting, power) or compared (KV cache).
-- Preemptions are the growth of each counter since its point before; a counter that fell was restarted and counts from 0.
-- Without $with_preemptions they are null, and buckets of theirs alone are left out.
-- Gauges and counters are read apart, and buckets are numbers until the end: two thirds of what one pass over both takes.
WITH placed AS (
    SELECT replica, arg_max(model, valid_from) AS model
    FROM replicas
    GROUP BY replica
),
series AS (
    SELECT metric_series.series_id, metric_series.name
    FROM metric_series
    LEFT JOIN placed ON metric_series.replica = placed.replica
    WHERE metric_series.name IN (
            'infer.engine.kv_cache_usage_ratio',
            'infer.engine.requests_running',
            'infer.engine.requests_waiting',
            'infer.engine.preemptions'
        )
        AND ($model::VARCHAR IS NULL OR coalesce(metric_series.model, placed.model) = $model::VARCHAR)
),
gauges AS (
    SELECT
        epoch_us(points.observed_at) // ($bucket_seconds::BIGINT * 1000000) AS bucket,
        points.series_id,
        avg(points.value) AS value_mean,
        max(points.value) AS value_max
    FROM metric_points AS points
    INNER JOIN series ON points.series_id = series.series_id AND series.name <> 'infer.engine.preemptions'
    WHERE points.observed_at >= $start::TIMESTAMP
        AND points.observed_at < $end::TIMESTAMP
        AND NOT isnan(points.value)
    GROUP BY bucket, points.series_id
),
steps AS (
    SELECT
        points.observed_at,
        points.value,
        lag(points.value) OVER (PARTITION BY points.series_id ORDER BY points.observed_at) AS value_before
    FROM metric_points AS points
    INNER JOIN series ON points.series_id = series.series_id AND series.name = 'infer.engine.preemptions'
    WHERE $with_preemptions::BOOLEAN
        AND points.observed_at >= $start::TIMESTAMP - INTERVAL 15 MINUTE
        AND points.observed_at < $end::TIMESTAMP
        AND NOT isnan(points.value)
),
growths AS (
    SELECT
        epoch_us(observed_at) // ($bucket_seconds::BIGINT * 1000000) AS bucket,
        sum(CASE WHEN value >= value_before THEN value - value_before WHEN value < value_before THEN value END)
            AS preemptions_count
    FROM steps
    WHERE observed_at >= $start::TIMESTAMP
    GROUP BY bucket
),
levels AS (
    SELECT
        gauges.bucket,
        max(gauges.value_max) FILTER (WHERE series.name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_max_ratio,
        avg(gauges.value_mean) FILTER (WHERE series.name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_mean_ratio,
        sum(gauges.value_mean) FILTER (WHERE series.name = 'infer.engine.requests_running') AS running,
        sum(gauges.value_mean) FILTER (WHERE series.name = 'infer.engine.requests_waiting') AS waiting
    FROM gauges
    INNER JOIN series ON gauges.series_id = series.series_id
    GROUP BY gauges.bucket
),
by_gpu AS (
    SELECT
        epoch_us(sampled_at) // ($bucket_seconds::BIGINT * 1000000) AS bucket,
        gpu_uuid,
        avg(sm_active_ratio) AS sm_active_ratio,
        avg(power_watts) AS power_watts
    FROM gpu_samples
    WHERE sampled_at >= $start::TIMESTAMP
        AND sampled_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR replica IN (SELECT replica FROM placed WHERE model = $model::VARCHAR))
    GROUP BY bucket, gpu_uuid
),
hardware AS (
    SELECT bucket, avg(sm_active_ratio) AS sm_active_ratio, sum(power_watts) AS power_watts
    FROM by_gpu
    GROUP BY bucket
)
SELECT
    make_timestamp(bucket * $bucket_seconds::BIGINT * 1000000) AS bucket_at,
    levels.kv_cache_max_ratio,
    levels.kv_cache_mean_ratio,
    levels.running,
    levels.waiting,
    growths.preemptions_count,
    hardware.sm_active_ratio,
    hardware.power_watts
FROM levels
FULL JOIN growths USING (bucket)
FULL JOIN hardware USING (bucket)
ORDER BY bucket_at
