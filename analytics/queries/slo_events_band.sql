-- slo_events_band: one SLO of one model, of the requests that arrived in one hour, in one band of age (0 is the youngest);
-- events and bad events
-- A request is an event at the moment it ended (where unknown: started). One scan serves every SLO and every window:
-- a request falls in exactly one band, and a window is the sum of the bands up to its length.
-- A model's SLOs of one team and window are judged together: one `place` holds at most one of each indicator, so that a request
-- meets the limits of its model once, not once per SLO.
-- $slo_numbers, $models, $slis, $thresholds, $teams, $window_seconds: parallel lists, one entry per (SLO, model).
-- $now: end of all windows, exclusive. Bands end at 5 m, 30 m, 1 h, 2 h, 6 h, 1 d, 3 d; band 7 is the rest of the SLO's window.
-- $arrived_from, $arrived_until: only requests that arrived from then on and before then; both on the hour.
WITH targets AS (
    SELECT
        unnest($slo_numbers::INTEGER[]) AS slo_number,
        unnest($models::VARCHAR[]) AS model,
        unnest($slis::VARCHAR[]) AS sli,
        unnest($thresholds::DOUBLE[]) AS threshold_seconds,
        unnest($teams::VARCHAR[]) AS team,
        $now::TIMESTAMP - to_seconds(unnest($window_seconds::BIGINT[])) AS window_from
),
numbered AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY model, team, window_from, sli ORDER BY slo_number) AS turn
    FROM targets
),
placed AS (
    SELECT *, dense_rank() OVER (ORDER BY model, team, window_from, turn)::INTEGER AS place
    FROM numbered
),
places AS (
    SELECT
        place,
        any_value(model) AS model,
        any_value(team) AS team,
        any_value(window_from) AS window_from,
        max(threshold_seconds) FILTER (WHERE sli = 'ttft') AS ttft_above,
        max(threshold_seconds) FILTER (WHERE sli = 'tpot') AS tpot_above,
        max(threshold_seconds) FILTER (WHERE sli = 'e2e') AS e2e_above
    FROM placed
    GROUP BY place
),
events AS (
    SELECT
        coalesce(model, 'unknown') AS model,
        team,
        service_failed,
        outcome = 'ok' AS ok,
        ttft_seconds,
        tpot_seconds,
        e2e_seconds,
        epoch_us(started_at) // 3600000000 AS hour,
        coalesce(ended_at, started_at) AS happened_at
    FROM judged_requests
    WHERE started_at >= $arrived_from::TIMESTAMP
        AND started_at < $arrived_until::TIMESTAMP
        AND coalesce(ended_at, started_at) < $now::TIMESTAMP
        AND coalesce(ended_at, started_at) >= (SELECT min(window_from) FROM targets)
),
counted AS (
    SELECT
        places.place,
        events.hour,
        CASE
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 72 HOUR THEN 7
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 24 HOUR THEN 6
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 6 HOUR THEN 5
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 2 HOUR THEN 4
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 1 HOUR THEN 3
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 30 MINUTE THEN 2
            WHEN events.happened_at < $now::TIMESTAMP - INTERVAL 5 MINUTE THEN 1
            ELSE 0
        END::TINYINT AS band,
        count(events.service_failed) AS availability_count,
        sum(events.service_failed::INTEGER) AS availability_bad,
        count(CASE WHEN events.ok THEN events.ttft_seconds END) AS ttft_count,
        sum((events.ok AND events.ttft_seconds > places.ttft_above)::INTEGER) AS ttft_bad,
        count(CASE WHEN events.ok THEN events.tpot_seconds END) AS tpot_count,
        sum((events.ok AND events.tpot_seconds > places.tpot_above)::INTEGER) AS tpot_bad,
        count(CASE WHEN events.ok THEN events.e2e_seconds END) AS e2e_count,
        sum((events.ok AND events.e2e_seconds > places.e2e_above)::INTEGER) AS e2e_bad
    FROM events
    INNER JOIN places ON events.model = places.model
    WHERE (places.team IS NULL OR events.team = places.team)
        AND events.happened_at >= places.window_from
    GROUP BY ALL
)
SELECT
    placed.slo_number,
    placed.model,
    make_timestamp(counted.hour * 3600000000) AS hour_at,
    counted.band,
    CASE placed.sli
        WHEN 'availability' THEN counted.availability_count
        WHEN 'ttft' THEN counted.ttft_count
        WHEN 'tpot' THEN counted.tpot_count
        WHEN 'e2e' THEN counted.e2e_count
    END AS events_count,
    coalesce(
        CASE placed.sli
            WHEN 'availability' THEN counted.availability_bad
            WHEN 'ttft' THEN counted.ttft_bad
            WHEN 'tpot' THEN counted.tpot_bad
            WHEN 'e2e' THEN counted.e2e_bad
        END,
        0
    )::BIGINT AS bad_count
FROM counted
INNER JOIN placed ON counted.place = placed.place
ORDER BY ALL
