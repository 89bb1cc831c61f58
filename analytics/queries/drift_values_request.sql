-- drift_values_request: one value of one metric of one stream, of the current window or of the same hours of earlier days
-- At most $sample_count of each, the same ones at every run (by hash of the key). See drift_sketch_window for the windows.
WITH placed AS (
    SELECT
        trace_id,
        span_id,
        epoch_us($now::TIMESTAMP) - epoch_us(started_at) - 1 < $window_seconds::BIGINT * 1000000 AS current,
        CASE $metric::VARCHAR
            WHEN 'input_tokens' THEN CASE WHEN input_tokens >= 0 THEN input_tokens::DOUBLE END
            WHEN 'output_tokens' THEN CASE WHEN outcome = 'ok' AND output_tokens >= 0 THEN output_tokens::DOUBLE END
            WHEN 'cached_ratio'
                THEN CASE WHEN cached_tokens BETWEEN 0 AND input_tokens THEN cached_tokens / nullif(input_tokens, 0) END
            WHEN 'ttft_seconds'
                THEN CASE WHEN outcome = 'ok' AND ttft_seconds > 0 AND isfinite(ttft_seconds) THEN ttft_seconds END
        END AS value
    FROM requests
    WHERE started_at < $now::TIMESTAMP
        AND started_at >= $now::TIMESTAMP - to_days($history_days::INTEGER) - to_seconds($window_seconds::BIGINT)
        AND (epoch_us($now::TIMESTAMP) - epoch_us(started_at) - 1) % 86400000000 < $window_seconds::BIGINT * 1000000
        AND coalesce(model, 'unknown') = $model::VARCHAR
        AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
),
drawn AS (
    SELECT current, value, row_number() OVER (PARTITION BY current ORDER BY hash(trace_id, span_id), trace_id) AS place
    FROM placed
    WHERE value IS NOT NULL
)
SELECT current, value
FROM drawn
WHERE place <= $sample_count::BIGINT
ORDER BY current, place
