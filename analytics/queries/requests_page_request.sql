-- requests_page_request: one request of one window of time, the largest of the chosen order first, ties by key
-- $least: only requests whose value of the order is at least that (started_at: microseconds since 1970); null is all.
SELECT *
FROM requests
WHERE started_at >= $start::TIMESTAMP
    AND started_at < $end::TIMESTAMP
    AND ($model::VARCHAR IS NULL OR coalesce(model, 'unknown') = $model::VARCHAR)
    AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
    AND ($outcome::VARCHAR IS NULL OR outcome = $outcome::VARCHAR)
    AND ($replica::VARCHAR IS NULL OR replica = $replica::VARCHAR)
    AND ($least::DOUBLE IS NULL OR CASE $order::VARCHAR
        WHEN 'ttft_seconds' THEN ttft_seconds >= $least::DOUBLE
        WHEN 'e2e_seconds' THEN e2e_seconds >= $least::DOUBLE
        WHEN 'output_tokens' THEN output_tokens >= try_cast($least AS BIGINT)
        ELSE started_at >= make_timestamp(try_cast($least AS BIGINT))
    END)
ORDER BY
    CASE $order::VARCHAR
        WHEN 'ttft_seconds' THEN ttft_seconds
        WHEN 'e2e_seconds' THEN e2e_seconds
        WHEN 'output_tokens' THEN output_tokens::DOUBLE
        ELSE epoch(started_at)
    END DESC NULLS LAST,
    trace_id,
    span_id
LIMIT $limit::BIGINT
