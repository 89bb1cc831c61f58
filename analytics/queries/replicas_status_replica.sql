-- replicas_status_replica: one replica that was seen in one window of time: inventory, requests, engine and GPU together
WITH inventory AS (
    SELECT replica, arg_max(model, valid_from) AS model, arg_max(gpu_type, valid_from) AS gpu_type
    FROM replicas
    WHERE valid_from < $end::TIMESTAMP
        AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
    GROUP BY replica
),
answered AS (
    SELECT
        replica,
        any_value(model) AS model,
        any_value(gpu_type) AS gpu_type,
        count(*) AS requests_count,
        count(*) FILTER (WHERE service_failed) / count(*) AS error_ratio,
        quantile_cont(ttft_seconds, 0.95) FILTER (WHERE outcome = 'ok') AS ttft_p95_seconds,
        quantile_cont(tpot_seconds, 0.95) FILTER (WHERE outcome = 'ok') AS tpot_p95_seconds,
        sum(cached_tokens) / nullif(sum(input_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0) AS cache_hit_ratio
    FROM judged_requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND replica IS NOT NULL
    GROUP BY replica
),
series AS MATERIALIZED (
    SELECT series_id, replica, name, model
    FROM metric_series
    WHERE replica IS NOT NULL
        AND name IN (
            'infer.engine.kv_cache_usage_ratio', 'infer.engine.requests_running', 'infer.engine.requests_waiting'
        )
),
-- Nearly every series has a point shortly before the last one of any: the whole window is read for the others alone.
recent AS MATERIALIZED (
    SELECT points.series_id, arg_max(points.value, points.observed_at) AS value
    FROM metric_points AS points
    SEMI JOIN series ON points.series_id = series.series_id
    WHERE points.observed_at >= $start::TIMESTAMP
        AND points.observed_at < $end::TIMESTAMP
        AND points.observed_at >= (
            SELECT max(observed_at) - INTERVAL 15 MINUTE
            FROM metric_points
            WHERE observed_at >= $start::TIMESTAMP
                AND observed_at < $end::TIMESTAMP
        )
        AND NOT isnan(points.value)
    GROUP BY points.series_id
),
quiet AS MATERIALIZED (
    SELECT series_id
    FROM series
    ANTI JOIN recent ON series.series_id = recent.series_id
),
older AS (
    SELECT points.series_id, arg_max(points.value, points.observed_at) AS value
    FROM metric_points AS points
    INNER JOIN quiet ON points.series_id = quiet.series_id
    WHERE points.observed_at >= $start::TIMESTAMP
        AND points.observed_at < $end::TIMESTAMP
        AND NOT isnan(points.value)
    GROUP BY points.series_id
),
latest AS (
    SELECT series.replica, series.name, series.model, told.value
    FROM series
    INNER JOIN (SELECT * FROM recent UNION ALL SELECT * FROM older) AS told ON series.series_id = told.series_id
),
engine AS (
    SELECT
        replica,
        any_value(model) AS model,
        max(value) FILTER (WHERE name = 'infer.engine.kv_cache_usage_ratio') AS kv_cache_usage_ratio,
        sum(value) FILTER (WHERE name = 'infer.engine.requests_running') AS running,
        sum(value) FILTER (WHERE name = 'infer.engine.requests_waiting') AS waiting
    FROM latest
    GROUP BY replica
),
gpus AS (
    SELECT
        replica,
        gpu_uuid,
        any_value(gpu_type) AS gpu_type,
        avg(power_watts) AS power_watts,
        avg(sm_active_ratio) AS sm_active_ratio,
        arg_max(xid, sampled_at) FILTER (WHERE xid IS NOT NULL) AS last_xid,
        max(sampled_at) FILTER (WHERE xid IS NOT NULL) AS last_xid_at
    FROM gpu_samples
    WHERE sampled_at >= $start::TIMESTAMP
        AND sampled_at < $end::TIMESTAMP
        AND replica IS NOT NULL
    GROUP BY replica, gpu_uuid
),
hardware AS (
    SELECT
        replica,
        any_value(gpu_type) AS gpu_type,
        sum(power_watts) AS power_watts,
        avg(sm_active_ratio) AS sm_active_ratio,
        arg_max(last_xid, last_xid_at) FILTER (WHERE last_xid IS NOT NULL) AS last_xid
    FROM gpus
    GROUP BY replica
),
joined AS (
    SELECT
        replica,
        coalesce(inventory.model, answered.model, engine.model) AS model,
        coalesce(inventory.gpu_type, hardware.gpu_type, answered.gpu_type) AS gpu_type,
        coalesce(answered.requests_count, 0) AS requests_count,
        answered.error_ratio,
        answered.ttft_p95_seconds,
        answered.tpot_p95_seconds,
        answered.cache_hit_ratio,
        engine.kv_cache_usage_ratio,
        engine.running,
        engine.waiting,
        hardware.power_watts,
        hardware.sm_active_ratio,
        hardware.last_xid
    FROM inventory
    FULL JOIN answered USING (replica)
    FULL JOIN engine USING (replica)
    FULL JOIN hardware USING (replica)
)
SELECT *
FROM joined
WHERE $model::VARCHAR IS NULL OR model = $model::VARCHAR
ORDER BY model, replica
