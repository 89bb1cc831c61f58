-- cost_good_team: one team's requests in one range of time, and how many of them met every latency that was promised
-- $start, $end: range of arrivals. $slis (ttft, tpot, e2e), $models, $teams, $seconds: parallel lists of limits, each for one model
-- or any (null) and one team or any; of several that apply the least holds. A latency that was not measured breaks none. Only a
-- request that was answered can meet them. $known_at: requests received by then; null is all.
WITH limits AS (
    SELECT
        unnest($slis::VARCHAR[]) AS sli,
        unnest($models::VARCHAR[]) AS model,
        unnest($teams::VARCHAR[]) AS team,
        unnest($seconds::DOUBLE[]) AS seconds
),
arrived AS (
    SELECT model, team, outcome, ttft_seconds, tpot_seconds, e2e_seconds
    FROM requests
    WHERE started_at >= $start::TIMESTAMP
        AND started_at < $end::TIMESTAMP
        AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
),
asked AS (
    SELECT DISTINCT model, team
    FROM arrived
),
promised AS (
    SELECT
        asked.model,
        asked.team,
        min(limits.seconds) FILTER (WHERE limits.sli = 'ttft') AS ttft_limit,
        min(limits.seconds) FILTER (WHERE limits.sli = 'tpot') AS tpot_limit,
        min(limits.seconds) FILTER (WHERE limits.sli = 'e2e') AS e2e_limit
    FROM asked
    LEFT JOIN limits
        ON (limits.model IS NULL OR limits.model = asked.model)
            AND (limits.team IS NULL OR limits.team = asked.team)
    GROUP BY asked.model, asked.team
)
SELECT
    arrived.team,
    count(*) AS requests_count,
    count(*) FILTER (
        WHERE arrived.outcome = 'ok'
            AND coalesce(arrived.ttft_seconds <= promised.ttft_limit, true)
            AND coalesce(arrived.tpot_seconds <= promised.tpot_limit, true)
            AND coalesce(arrived.e2e_seconds <= promised.e2e_limit, true)
    ) AS good_count
FROM arrived
INNER JOIN promised
    ON arrived.model IS NOT DISTINCT FROM promised.model
        AND arrived.team IS NOT DISTINCT FROM promised.team
GROUP BY arrived.team
ORDER BY arrived.team
