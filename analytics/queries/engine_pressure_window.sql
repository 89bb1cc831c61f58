-- engine_pressure_window: one row for one window of time; the fullest KV cache and the longest queue of any replica
WITH placed AS (
    SELECT replica, arg_max(model, valid_from) AS model
    FROM replicas
    GROUP BY replica
),
series AS (
    SELECT metric_series.series_id, metric_series.name
    FROM metric_series
    LEFT JOIN placed ON metric_series.replica = placed.replica
    WHERE metric_series.name IN ('infer.engine.kv_cache_usage_ratio', 'infer.engine.requests_waiting')
        AND ($model::VARCHAR IS NULL OR coalesce(metric_series.model, placed.model) = $model::VARCHAR)
)
SELECT
    max(points.value) FILTER (WHERE series.name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_max_ratio,
    max(points.value) FILTER (WHERE series.name = 'infer.engine.requests_waiting') AS waiting_max
FROM metric_points AS points
INNER JOIN series ON points.series_id = series.series_id
WHERE points.observed_at >= $start::TIMESTAMP
    AND points.observed_at < $end::TIMESTAMP
    AND NOT isnan(points.value)
