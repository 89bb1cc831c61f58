-- drift_sketch_window: one model and team (null: no team) in one window; counts and 100 quantiles a metric
-- Time is counted from $first in days of 24 h; the first $slots stretches of $window_seconds of each day are windows: the one
-- of (day, slot) begins $first + day · 24 h + slot · $window_seconds. Rows from $first on and before $until.
-- Tokens and latency are sketched as natural logarithms, ratios as they are. Output and TTFT: requests with outcome ok.
-- Quantiles are values of rows (quantile_disc) of 4 bytes, which costs half of interpolated doubles; 7 digits are enough here.
WITH chosen AS (
    SELECT
        coalesce(model, 'unknown') AS model,
        team,
        epoch_us(started_at) - epoch_us($first::TIMESTAMP) AS since_us,
        CASE WHEN input_tokens >= 0 THEN input_tokens::FLOAT END AS input_tokens,
        CASE WHEN outcome = 'ok' AND output_tokens >= 0 THEN output_tokens::FLOAT END AS output_tokens,
        CASE WHEN cached_tokens BETWEEN 0 AND input_tokens THEN (cached_tokens / nullif(input_tokens, 0))::FLOAT END AS cached_ratio,
        CASE WHEN outcome = 'ok' AND ttft_seconds > 0 AND isfinite(ttft_seconds) THEN greatest(least(ttft_seconds, 1e30), 1e-30)::FLOAT END AS ttft_seconds
    FROM requests
    WHERE started_at >= $first::TIMESTAMP AND started_at < $until::TIMESTAMP
),
placed AS (
    SELECT
        *,
        (since_us // 86400000000)::INTEGER AS day,
        (since_us % 86400000000 // ($window_seconds::BIGINT * 1000000))::INTEGER AS slot
    FROM chosen
),
sketched AS (
    SELECT
        model,
        team,
        day,
        slot,
        count(input_tokens) AS input_tokens_count,
        count(output_tokens) AS output_tokens_count,
        count(cached_ratio) AS cached_ratio_count,
        count(ttft_seconds) AS ttft_seconds_count,
        quantile_disc(input_tokens, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS input_tokens,
        quantile_disc(output_tokens, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS output_tokens,
        quantile_disc(cached_ratio, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS cached_ratio,
        quantile_disc(ttft_seconds, list_transform(range(100), lambda i: (i + 0.5) / 100)) AS ttft_seconds
    FROM placed
    WHERE slot < $slots::BIGINT
    GROUP BY model, team, day, slot
)
SELECT
    model,
    team,
    day,
    slot,
    input_tokens_count,
    output_tokens_count,
    cached_ratio_count,
    ttft_seconds_count,
    list_transform(input_tokens, lambda value: ln(1 + value::DOUBLE)) AS input_tokens_sketch,
    list_transform(output_tokens, lambda value: ln(1 + value::DOUBLE)) AS output_tokens_sketch,
    list_transform(cached_ratio, lambda value: value::DOUBLE) AS cached_ratio_sketch,
    list_transform(ttft_seconds, lambda value: ln(value::DOUBLE)) AS ttft_seconds_sketch
FROM sketched
ORDER BY model, team, day, slot
