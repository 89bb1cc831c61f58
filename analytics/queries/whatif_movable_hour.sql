-- whatif_movable_hour: one model in one hour, with the share of its tokens (output counts twice) that can wait
-- $start, $end: range. $modes: modes of requests that can wait; $teams: teams whose requests can.
SELECT
    model,
    date_trunc('hour', started_at) AS hour_at,
    coalesce(
        sum(tokens) FILTER (WHERE list_contains($modes::VARCHAR[], mode) OR list_contains($teams::VARCHAR[], team))
        / nullif(sum(tokens), 0),
        0
    )::DOUBLE AS movable_ratio
FROM (
    SELECT
        model,
        started_at,
        mode,
        team,
        (coalesce(input_tokens, 0) - coalesce(cached_tokens, 0) + 2 * coalesce(output_tokens, 0))::DOUBLE AS tokens
    FROM requests
    WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP AND model IS NOT NULL
)
GROUP BY model, hour_at
ORDER BY model, hour_at
