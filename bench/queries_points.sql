-- points of the same fleet: every series once a step, in order of time
INSERT INTO metric_points (series_id, observed_at, value)
SELECT
    metric_series.series_id,
    TIMESTAMP '2026-10-01' + to_microseconds(step * $step_microseconds::BIGINT) AS observed_at,
    CASE metric_series.kind
        WHEN 'counter' THEN step * (1 + metric_series.series_id % 7)
        ELSE ((step * 7919 + metric_series.series_id * 104729) % 1000) / 1000.0
    END
FROM range($first::BIGINT, $last::BIGINT) AS steps(step)
CROSS JOIN metric_series
ORDER BY observed_at, metric_series.series_id
