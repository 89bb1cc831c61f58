-- requests_spread_bin: one bin of one measure of requests that started in one window; four bins to every doubling
SELECT
    pow(2, floor(log2(measured.value) * 4) / 4) AS low,
    pow(2, (floor(log2(measured.value) * 4) + 1) / 4) AS high,
    count(*) AS requests_count
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
        AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
        AND ($outcome::VARCHAR IS NULL OR outcome = $outcome::VARCHAR)
        AND ($replica::VARCHAR IS NULL OR replica = $replica::VARCHAR)
) AS measured
WHERE measured.value > 0 AND isfinite(measured.value)
GROUP BY floor(log2(measured.value) * 4)
ORDER BY low
