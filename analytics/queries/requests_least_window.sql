-- requests_least_window: one window; the least value of the order that a page of its largest holds, and how many carry it
-- The value of started_at is in microseconds since 1970. It reads one column, where the page reads them all.
SELECT
    min(largest.value) AS least,
    count(largest.value) AS valued_count
FROM (
    SELECT
        CASE $order::VARCHAR
            WHEN 'ttft_seconds' THEN ttft_seconds
            WHEN 'e2e_seconds' THEN e2e_seconds
            WHEN 'output_tokens' THEN output_tokens
            ELSE epoch_us(started_at)
        END AS value
    FROM requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND ($model::VARCHAR IS NULL OR coalesce(model, 'unknown') = $model::VARCHAR)
        AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
        AND ($outcome::VARCHAR IS NULL OR outcome = $outcome::VARCHAR)
        AND ($replica::VARCHAR IS NULL OR replica = $replica::VARCHAR)
    ORDER BY value DESC NULLS LAST
    LIMIT $limit::BIGINT
) AS largest
