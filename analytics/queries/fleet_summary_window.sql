-- fleet_summary_window: one row for one window of time (and one model, if given): its requests, the pressure on its engines, and what happened; nulls where nothing was measured
-- What happened is a list in order of time: events of the model and those of the whole fleet.
WITH chosen AS (
    SELECT
        service_failed,
        CASE WHEN outcome = 'ok' THEN ttft_seconds END AS ttft_seconds,
        CASE WHEN outcome = 'ok' THEN tpot_seconds END AS tpot_seconds,
        CASE WHEN cached_tokens IS NOT NULL THEN input_tokens END AS input_tokens,
        cached_tokens
    FROM judged_requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR coalesce(model, 'unknown') = $model::VARCHAR)
),
summary AS (
    SELECT
        count(*) AS requests_count,
        count(*) FILTER (WHERE service_failed) / nullif(count(*), 0) AS error_ratio,
        quantile_cont(ttft_seconds, 0.95) AS ttft_p95_seconds,
        quantile_cont(tpot_seconds, 0.95) AS tpot_p95_seconds,
        sum(cached_tokens) / nullif(sum(input_tokens), 0) AS cache_hit_ratio
    FROM chosen
),
placed AS (
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
),
pressure AS (
    SELECT
        max(points.value) FILTER (WHERE series.name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_max_ratio,
        max(points.value) FILTER (WHERE series.name = 'infer.engine.requests_waiting') AS waiting_max
    FROM metric_points AS points
    INNER JOIN series ON points.series_id = series.series_id
    WHERE points.observed_at >= $start::TIMESTAMP
        AND points.observed_at < $end::TIMESTAMP
        AND NOT isnan(points.value)
),
happened AS (
    SELECT list({'occurred_at': occurred_at, 'kind': kind, 'title': title} ORDER BY occurred_at, event_id) AS events
    FROM events
    WHERE occurred_at >= $start::TIMESTAMP
        AND occurred_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR model IS NULL OR model = $model::VARCHAR)
)
SELECT
    summary.requests_count,
    summary.error_ratio,
    summary.ttft_p95_seconds,
    summary.tpot_p95_seconds,
    summary.cache_hit_ratio,
    pressure.kv_cache_max_ratio,
    pressure.waiting_max,
    happened.events
FROM summary
CROSS JOIN pressure
CROSS JOIN happened
