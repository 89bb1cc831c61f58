-- slo_events_band: one SLO of one model in one band of age (0 is the youngest); events and bad events
-- A request is an event at the moment it ended (where unknown: started). One scan serves every SLO and every window:
-- a request falls in exactly one band, and a window is the sum of the bands up to its length.
-- $slo_numbers, $models, $slis, $thresholds, $teams, $window_seconds: parallel lists, one entry per (SLO, model).
-- $now: end of all windows, exclusive. Bands end at 5 m, 30 m, 1 h, 2 h, 6 h, 1 d, 3 d; band 7 is the rest of the SLO's window.
WITH targets AS (
    SELECT
        unnest($slo_numbers::INTEGER[]) AS slo_number,
        unnest($models::VARCHAR[]) AS model,
        unnest($slis::VARCHAR[]) AS sli,
        unnest($thresholds::DOUBLE[]) AS threshold_seconds,
        unnest($teams::VARCHAR[]) AS team,
        $now::TIMESTAMP - to_seconds(unnest($window_seconds::BIGINT[])) AS window_from
),
events AS (
    SELECT
        coalesce(model, 'unknown') AS model,
        team,
        outcome,
        service_failed,
        ttft_seconds,
        tpot_seconds,
        e2e_seconds,
        coalesce(ended_at, started_at) AS happened_at
    FROM judged_requests
    WHERE coalesce(ended_at, started_at) < $now::TIMESTAMP
        AND coalesce(ended_at, started_at) >= (SELECT min(window_from) FROM targets)
),
aged AS (
    SELECT
        *,
        (happened_at < $now::TIMESTAMP - INTERVAL 5 MINUTE)::TINYINT
        + (happened_at < $now::TIMESTAMP - INTERVAL 30 MINUTE)::TINYINT
        + (happened_at < $now::TIMESTAMP - INTERVAL 1 HOUR)::TINYINT
        + (happened_at < $now::TIMESTAMP - INTERVAL 2 HOUR)::TINYINT
        + (happened_at < $now::TIMESTAMP - INTERVAL 6 HOUR)::TINYINT
        + (happened_at < $now::TIMESTAMP - INTERVAL 24 HOUR)::TINYINT
        + (happened_at < $now::TIMESTAMP - INTERVAL 72 HOUR)::TINYINT AS band
    FROM events
),
judged AS (
    SELECT
        targets.slo_number,
        targets.model,
        aged.band,
        CASE targets.sli
            WHEN 'availability' THEN aged.service_failed
            WHEN 'ttft' THEN CASE WHEN aged.outcome = 'ok' THEN aged.ttft_seconds > targets.threshold_seconds END
            WHEN 'tpot' THEN CASE WHEN aged.outcome = 'ok' THEN aged.tpot_seconds > targets.threshold_seconds END
            WHEN 'e2e' THEN CASE WHEN aged.outcome = 'ok' THEN aged.e2e_seconds > targets.threshold_seconds END
        END AS bad
    FROM aged
    INNER JOIN targets ON aged.model = targets.model
    WHERE (targets.team IS NULL OR aged.team = targets.team)
        AND aged.happened_at >= targets.window_from
)
SELECT
    slo_number,
    model,
    band,
    count(bad) AS events_count,
    count(*) FILTER (WHERE bad) AS bad_count
FROM judged
GROUP BY ALL
ORDER BY ALL
