-- trace_requests_request: one request of one trace, in the order of arrival; of the first, how it stands among its peers too
-- Its peers are the requests of the same model that arrived within half an hour of it, itself among them: how many carry
-- a measure (_peers_count), and how many of those a smaller value (_below_count). Nulls for the other requests.
WITH found AS MATERIALIZED (
    SELECT *
    FROM requests
    WHERE trace_id = $trace_id::VARCHAR
),
opening AS (
    SELECT
        span_id,
        coalesce(model, 'unknown') AS model,
        started_at,
        ttft_seconds,
        coalesce(e2e_seconds, epoch(ended_at - started_at)) AS e2e_seconds
    FROM found
    ORDER BY started_at, span_id
    LIMIT 1
),
ranked AS (
    SELECT
        opening.span_id,
        count(peers.ttft_seconds) AS ttft_peers_count,
        count(*) FILTER (WHERE peers.ttft_seconds < opening.ttft_seconds) AS ttft_below_count,
        count(peers.e2e_seconds) AS e2e_peers_count,
        count(*) FILTER (WHERE peers.e2e_seconds < opening.e2e_seconds) AS e2e_below_count
    FROM opening
    INNER JOIN requests AS peers
        ON coalesce(peers.model, 'unknown') = opening.model
            AND peers.started_at >= opening.started_at - INTERVAL 30 MINUTE
            AND peers.started_at < opening.started_at + INTERVAL 30 MINUTE
    GROUP BY opening.span_id
)
SELECT
    found.*,
    ranked.ttft_peers_count,
    ranked.ttft_below_count,
    ranked.e2e_peers_count,
    ranked.e2e_below_count
FROM found
LEFT JOIN ranked ON found.span_id = ranked.span_id
ORDER BY found.started_at, found.span_id
