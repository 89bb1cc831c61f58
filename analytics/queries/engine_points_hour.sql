-- engine_points_hour: one hour in which metrics or GPUs were observed: how many points and samples, what tells whether they are the same as before
-- Rows land once and don't change, so the counts change whenever the rows of an hour do. series_count: series that tell the
-- load of engines; points without a series say nothing until it is there.
WITH counted AS (
    SELECT epoch_us(observed_at) // 3600000000 AS hour, count(*) AS points_count, 0 AS samples_count
    FROM metric_points
    WHERE observed_at >= $start::TIMESTAMP
        AND observed_at < $end::TIMESTAMP
    GROUP BY hour
    UNION ALL
    SELECT epoch_us(sampled_at) // 3600000000, 0, count(*)
    FROM gpu_samples
    WHERE sampled_at >= $start::TIMESTAMP
        AND sampled_at < $end::TIMESTAMP
    GROUP BY ALL
)
SELECT
    make_timestamp(hour * 3600000000) AS hour_at,
    sum(points_count)::BIGINT AS points_count,
    sum(samples_count)::BIGINT AS samples_count,
    (SELECT count(*) FROM metric_series WHERE name LIKE 'infer.engine.%') AS series_count
FROM counted
GROUP BY hour
ORDER BY hour
