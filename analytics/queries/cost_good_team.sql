-- cost_good_team: one team's requests in one range of time, and how many of them met their objective
-- $start, $end: range of arrivals. $ttft_seconds, $e2e_seconds: the most until the first token (where it was measured) and the
-- last byte. Only a request that was answered can meet it.
SELECT
    team,
    count(*) AS requests_count,
    count(*) FILTER (
        WHERE outcome = 'ok'
            AND coalesce(ttft_seconds <= $ttft_seconds::DOUBLE, true)
            AND coalesce(e2e_seconds <= $e2e_seconds::DOUBLE, true)
    ) AS good_count
FROM requests
WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
GROUP BY team
ORDER BY team
