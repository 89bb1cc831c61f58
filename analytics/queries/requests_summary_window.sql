-- requests_summary_window: one row for one window of time (and one model, if given); nulls where nothing was measured
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
)
SELECT
    count(*) AS requests_count,
    count(*) FILTER (WHERE service_failed) / nullif(count(*), 0) AS error_ratio,
    quantile_cont(ttft_seconds, 0.95) AS ttft_p95_seconds,
    quantile_cont(tpot_seconds, 0.95) AS tpot_p95_seconds,
    sum(cached_tokens) / nullif(sum(input_tokens), 0) AS cache_hit_ratio
FROM chosen
