-- drift_sketch_window: one model and team (null: no team) in one window of one day; counts and 100 quantiles a metric
-- Time is counted back from $now in days of 24 h, and each day in slots of $window_seconds: (day 0, slot 0) is the current
-- window, (day d, slot 0) the same hours d days before, the other slots the hours between. Rows go back $history_days days.
-- Tokens and latency are sketched as natural logarithms, ratios as they are. Output and TTFT: requests with outcome ok.
WITH aged AS (
    SELECT
        coalesce(model, 'unknown') AS model,
        team,
        epoch_us($now::TIMESTAMP) - epoch_us(started_at) - 1 AS age_us,
        CASE WHEN input_tokens >= 0 THEN ln(1 + input_tokens) END AS input_tokens,
        CASE WHEN outcome = 'ok' AND output_tokens >= 0 THEN ln(1 + output_tokens) END AS output_tokens,
        CASE WHEN cached_tokens BETWEEN 0 AND input_tokens THEN cached_tokens / nullif(input_tokens, 0) END AS cached_ratio,
        CASE WHEN outcome = 'ok' AND ttft_seconds > 0 AND isfinite(ttft_seconds) THEN ln(ttft_seconds) END AS ttft_seconds
    FROM requests
    WHERE started_at < $now::TIMESTAMP
        AND started_at >= $now::TIMESTAMP - to_days($history_days::INTEGER) - to_seconds($window_seconds::BIGINT)
),
placed AS (
    SELECT
        *,
        (age_us // 86400000000)::INTEGER AS day_back,
        (age_us % 86400000000 // ($window_seconds::BIGINT * 1000000))::INTEGER AS slot
    FROM aged
)
SELECT
    model,
    team,
    day_back,
    slot,
    count(input_tokens) AS input_tokens_count,
    count(output_tokens) AS output_tokens_count,
    count(cached_ratio) AS cached_ratio_count,
    count(ttft_seconds) AS ttft_seconds_count,
    quantile_cont(input_tokens, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS input_tokens_sketch,
    quantile_cont(output_tokens, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS output_tokens_sketch,
    quantile_cont(cached_ratio, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS cached_ratio_sketch,
    quantile_cont(ttft_seconds, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS ttft_seconds_sketch
FROM placed
WHERE slot < 86400 // $window_seconds::BIGINT
GROUP BY model, team, day_back, slot
ORDER BY model, team, day_back, slot
