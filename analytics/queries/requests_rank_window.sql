-- requests_rank_window: one window; how many requests carry one measure, and how many of them are below one value
SELECT
    count(*) FILTER (WHERE measured.value < $value::DOUBLE) AS below_count,
    count(measured.value) AS requests_count
FROM (
    SELECT
        CASE $measure::VARCHAR
            WHEN 'ttft_seconds' THEN ttft_seconds
            WHEN 'e2e_seconds' THEN e2e_seconds
            WHEN 'output_tokens' THEN output_tokens::DOUBLE
        END AS value
    FROM requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR coalesce(model, 'unknown') = $model::VARCHAR)
) AS measured
