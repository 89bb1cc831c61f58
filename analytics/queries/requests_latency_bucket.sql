-- requests_latency_bucket: one model (or all, by_model false) in one bucket of time; counts, exact percentiles, tokens
-- Buckets hold the requests that started in them and are aligned to the epoch; empty ones are left out.
-- A count beyond 10^12 tokens is a sender's mistake; it is cut there, so that no sum overflows.
-- Percentiles are exact over the rows with outcome ok that carry the measurement; null where there is none.
WITH chosen AS (
    SELECT
        CASE WHEN $by_model::BOOLEAN THEN coalesce(model, 'unknown') END AS model,
        time_bucket(to_seconds($bucket_seconds::BIGINT), started_at, TIMESTAMP '1970-01-01') AS bucket_at,
        outcome,
        service_failed,
        CASE WHEN outcome = 'ok' THEN ttft_seconds END AS ttft_seconds,
        CASE WHEN outcome = 'ok' THEN tpot_seconds END AS tpot_seconds,
        CASE WHEN outcome = 'ok' THEN e2e_seconds END AS e2e_seconds,
        CASE WHEN outcome = 'ok' THEN queue_seconds END AS queue_seconds,
        CASE WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END AS input_tokens,
        CASE WHEN cached_tokens > 1000000000000 THEN 1000000000000 ELSE cached_tokens END AS cached_tokens,
        CASE WHEN output_tokens > 1000000000000 THEN 1000000000000 ELSE output_tokens END AS output_tokens
    FROM judged_requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR coalesce(model, 'unknown') = $model::VARCHAR)
        AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
        AND ($replica::VARCHAR IS NULL OR replica = $replica::VARCHAR)
),
measured AS (
    SELECT
        model,
        bucket_at,
        count(*) AS requests_count,
        count(*) FILTER (WHERE outcome = 'ok') AS ok_count,
        count(*) FILTER (WHERE service_failed) AS error_count,
        count(*) FILTER (WHERE outcome = 'client_disconnect') AS disconnect_count,
        quantile_cont(ttft_seconds, [0.5, 0.95, 0.99]) AS ttft,
        quantile_cont(tpot_seconds, [0.5, 0.95, 0.99]) AS tpot,
        quantile_cont(e2e_seconds, [0.5, 0.95, 0.99]) AS e2e,
        quantile_cont(queue_seconds, 0.95) AS queue_p95_seconds,
        sum(input_tokens)::BIGINT AS input_tokens,
        sum(cached_tokens)::BIGINT AS cached_tokens,
        sum(output_tokens)::BIGINT AS output_tokens,
        sum(input_tokens) FILTER (WHERE cached_tokens IS NOT NULL)::BIGINT AS cacheable_tokens
    FROM chosen
    GROUP BY model, bucket_at
)
SELECT
    model,
    bucket_at,
    requests_count,
    ok_count,
    error_count,
    error_count / requests_count AS error_ratio,
    disconnect_count,
    ttft[1] AS ttft_p50_seconds,
    ttft[2] AS ttft_p95_seconds,
    ttft[3] AS ttft_p99_seconds,
    tpot[1] AS tpot_p50_seconds,
    tpot[2] AS tpot_p95_seconds,
    tpot[3] AS tpot_p99_seconds,
    e2e[1] AS e2e_p50_seconds,
    e2e[2] AS e2e_p95_seconds,
    e2e[3] AS e2e_p99_seconds,
    queue_p95_seconds,
    input_tokens,
    cached_tokens,
    output_tokens,
    cached_tokens / nullif(cacheable_tokens, 0) AS cache_hit_ratio
FROM measured
ORDER BY model, bucket_at
