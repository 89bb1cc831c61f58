-- engine_load_bucket: one bucket of time; KV cache, batch and queue of the engines, activity and power of the GPUs
-- Within a bucket each series is averaged first, then replicas are added (running, waiting, power) or compared (KV cache).
-- Preemptions are the growth of each counter since its point before; a counter that fell was restarted and counts from 0.
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
points AS (
    SELECT
        series.series_id,
        series.name,
        metric_points.observed_at,
        metric_points.value
    FROM metric_points
    INNER JOIN series ON metric_points.series_id = series.series_id
    WHERE metric_points.observed_at >= $start::TIMESTAMP - INTERVAL 15 MINUTE
        AND metric_points.observed_at < $end::TIMESTAMP
        AND NOT isnan(metric_points.value)
),
by_series AS (
    SELECT
        time_bucket(to_seconds($bucket_seconds::BIGINT), observed_at, TIMESTAMP '1970-01-01') AS bucket_at,
        series_id,
        name,
        avg(value) AS value_mean,
        max(value) AS value_max
    FROM points
    WHERE observed_at >= $start::TIMESTAMP
    GROUP BY ALL
),
steps AS (
    SELECT observed_at, value, lag(value) OVER (PARTITION BY series_id ORDER BY observed_at) AS value_before
    FROM points
    WHERE name = 'infer.engine.preemptions'
),
growths AS (
    SELECT
        time_bucket(to_seconds($bucket_seconds::BIGINT), observed_at, TIMESTAMP '1970-01-01') AS bucket_at,
        sum(CASE WHEN value >= value_before THEN value - value_before WHEN value < value_before THEN value END)
            AS preemptions_count
    FROM steps
    WHERE observed_at >= $start::TIMESTAMP
    GROUP BY ALL
),
engine AS (
    SELECT
        bucket_at,
        max(value_max) FILTER (WHERE name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_max_ratio,
        avg(value_mean) FILTER (WHERE name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_mean_ratio,
        sum(value_mean) FILTER (WHERE name = 'infer.engine.requests_running') AS running,
        sum(value_mean) FILTER (WHERE name = 'infer.engine.requests_waiting') AS waiting
    FROM by_series
    GROUP BY bucket_at
),
by_gpu AS (
    SELECT
        time_bucket(to_seconds($bucket_seconds::BIGINT), gpu_samples.sampled_at, TIMESTAMP '1970-01-01') AS bucket_at,
        gpu_samples.gpu_uuid,
        avg(gpu_samples.sm_active_ratio) AS sm_active_ratio,
        avg(gpu_samples.power_watts) AS power_watts
    FROM gpu_samples
    LEFT JOIN placed ON gpu_samples.replica = placed.replica
    WHERE gpu_samples.sampled_at >= $start::TIMESTAMP
        AND gpu_samples.sampled_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR placed.model = $model::VARCHAR)
    GROUP BY ALL
),
hardware AS (
    SELECT bucket_at, avg(sm_active_ratio) AS sm_active_ratio, sum(power_watts) AS power_watts
    FROM by_gpu
    GROUP BY bucket_at
)
SELECT
    bucket_at,
    engine.kv_cache_max_ratio,
    engine.kv_cache_mean_ratio,
    engine.running,
    engine.waiting,
    growths.preemptions_count,
    hardware.sm_active_ratio,
    hardware.power_watts
FROM engine
LEFT JOIN growths USING (bucket_at)
FULL JOIN hardware USING (bucket_at)
ORDER BY bucket_at
