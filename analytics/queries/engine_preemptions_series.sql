-- engine_preemptions_series: one bucket of time of one series that counts preemptions: its first and last value, and its growth between them
-- growth_count is null where the bucket has one point; a counter that fell was restarted and counts from 0.
WITH points AS (
    SELECT
        metric_points.series_id,
        epoch_us(metric_points.observed_at) // ($bucket_seconds::BIGINT * 1000000) AS bucket,
        metric_points.observed_at,
        metric_points.value
    FROM metric_points
    INNER JOIN metric_series ON metric_points.series_id = metric_series.series_id
    WHERE metric_series.name = 'infer.engine.preemptions'
        AND metric_points.observed_at >= $start::TIMESTAMP
        AND metric_points.observed_at < $end::TIMESTAMP
        AND NOT isnan(metric_points.value)
),
-- Not partitioned by bucket: that takes twice as long.
steps AS (
    SELECT
        *,
        CASE WHEN lag(bucket) OVER by_series = bucket THEN lag(value) OVER by_series END AS value_before
    FROM points
    WINDOW by_series AS (PARTITION BY series_id ORDER BY observed_at)
)
SELECT
    make_timestamp(bucket * $bucket_seconds::BIGINT * 1000000) AS bucket_at,
    series_id,
    arg_min(value, observed_at) AS first_value,
    arg_max(value, observed_at) AS last_value,
    sum(CASE WHEN value >= value_before THEN value - value_before WHEN value < value_before THEN value END)
        AS growth_count
FROM steps
GROUP BY bucket, series_id
ORDER BY bucket_at, series_id
