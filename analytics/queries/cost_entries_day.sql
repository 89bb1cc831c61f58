-- cost_entries_day: one amount of one (day, replica, model, bucket, team, app); the amounts add up to the given bill exactly
-- The bill comes as parallel lists, one entry per replica and hour: $replicas, $hours (start), $models (of the replica),
-- $bill_units (1e-9 of the currency), $billed_microseconds. $start, $end: range of those hours.
-- $known_at: only requests that were received by then; null is all.
-- $weight_input, $weight_cached, $weight_output: whole thousandths per token (cached is not counted as input again).
--
-- Each hour of a replica is split in whole units, by largest remainder at both steps:
--   1. busy and idle, by the length of the union of the requests' times in the engine: [arrival + queue, end]. Queue time
--      costs nothing. Idle goes to warm_idle.
--   2. busy among the requests, by token weight; a request over several hours splits its weight by time, exactly.
--      Ties of remainders are broken by (trace_id, span_id), so the order of rows is without effect.
-- Buckets: wasted (any outcome but ok; the team is kept), unattributed (no team, or busy time without a token), request.
-- Counts beyond 10^12 tokens and times beyond 10^9 s are a sender's mistake; they are cut there, so that no sum overflows.
-- A request that was rejected was never in the engine. Requests and tokens are counted in the hour of entering the engine.
WITH bills AS (
    SELECT
        unnest($replicas::VARCHAR[]) AS replica,
        epoch_us(unnest($hours::TIMESTAMP[])) // 3600000000 AS hour_number,
        unnest($models::VARCHAR[]) AS model,
        unnest($bill_units::BIGINT[]) AS bill_units,
        unnest($billed_microseconds::BIGINT[]) AS billed_microseconds
),
arrived AS (
    SELECT
        trace_id,
        span_id,
        replica,
        model,
        team,
        app,
        outcome,
        CASE WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END AS input_tokens,
        CASE WHEN cached_tokens > 1000000000000 THEN 1000000000000 ELSE cached_tokens END AS cached_tokens,
        CASE WHEN output_tokens > 1000000000000 THEN 1000000000000 ELSE output_tokens END AS output_tokens,
        epoch_us(started_at) AS started_us,
        greatest(
            epoch_us(started_at),
            coalesce(
                epoch_us(ended_at),
                epoch_us(started_at) + (CASE WHEN isfinite(e2e_seconds) THEN least(e2e_seconds, 1e9) END * 1000000)::BIGINT,
                0
            )
        ) AS ended_us,
        coalesce(
            (CASE WHEN isfinite(queue_seconds) THEN greatest(least(queue_seconds, 1e9), 0) END * 1000000)::BIGINT, 0
        ) AS queue_us,
        least(greatest(coalesce(requests.input_tokens, 0), 0), 1000000000000) AS prompt,
        least(greatest(coalesce(requests.cached_tokens, 0), 0), prompt) AS cached,
        least(greatest(coalesce(requests.output_tokens, 0), 0), 1000000000000) AS generated
    FROM requests
    WHERE replica IS NOT NULL
        AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
        AND started_at < $end::TIMESTAMP
        AND coalesce(
            ended_at,
            started_at + to_microseconds((CASE WHEN isfinite(e2e_seconds) THEN least(e2e_seconds, 1e9) END * 1000000)::BIGINT),
            started_at
        ) >= $start::TIMESTAMP
),
engaged AS (
    SELECT
        *,
        CASE WHEN outcome = 'rejected' THEN started_us ELSE least(started_us + queue_us, ended_us) END AS from_us,
        CASE WHEN outcome = 'rejected' THEN started_us ELSE ended_us END AS to_us,
        CASE
            WHEN outcome = 'rejected' THEN 0
            ELSE (prompt - cached) * $weight_input::BIGINT
                + cached * $weight_cached::BIGINT
                + generated * $weight_output::BIGINT
        END AS weight
    FROM arrived
),
cut AS (
    SELECT
        *,
        unnest(range(from_us // 3600000000, greatest(from_us, to_us - 1) // 3600000000 + 1)) AS hour_number
    FROM engaged
),
pieces AS (
    SELECT
        cut.*,
        bills.model AS replica_model,
        greatest(from_us, cut.hour_number * 3600000000) AS piece_from_us,
        least(to_us, (cut.hour_number + 1) * 3600000000) AS piece_to_us
    FROM cut
    INNER JOIN bills ON cut.replica = bills.replica AND cut.hour_number = bills.hour_number
),
weighed AS (
    SELECT
        *,
        CASE
            WHEN to_us = from_us OR (piece_from_us = from_us AND piece_to_us = to_us) THEN weight::HUGEINT
            ELSE weight::HUGEINT * (piece_to_us - from_us) // (to_us - from_us)
                - weight::HUGEINT * (piece_from_us - from_us) // (to_us - from_us)
        END AS piece_weight,
        greatest(
            0,
            piece_to_us - greatest(
                piece_from_us,
                coalesce(
                    max(piece_to_us) OVER (
                        PARTITION BY replica, hour_number
                        ORDER BY piece_from_us
                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                    ),
                    piece_from_us
                )
            )
        ) AS newly_busy_us
    FROM pieces
),
used AS (
    SELECT replica, hour_number, sum(piece_weight)::HUGEINT AS hour_weight, sum(newly_busy_us)::BIGINT AS busy_us
    FROM weighed
    GROUP BY replica, hour_number
),
split AS (
    SELECT
        bills.replica,
        bills.hour_number,
        bills.model,
        bills.bill_units,
        coalesce(used.hour_weight, 0) AS hour_weight,
        sign(bills.bill_units)::HUGEINT * (
            (
                2 * abs(bills.bill_units)::HUGEINT * least(coalesce(used.busy_us, 0), bills.billed_microseconds)
                + bills.billed_microseconds
            ) // (2 * bills.billed_microseconds)
        ) AS busy_units
    FROM bills
    LEFT JOIN used ON bills.replica = used.replica AND bills.hour_number = used.hour_number
),
quotas AS (
    SELECT
        weighed.*,
        sign(split.busy_units)::HUGEINT AS bill_sign,
        abs(split.busy_units) AS shared_units,
        abs(split.busy_units) * weighed.piece_weight // nullif(split.hour_weight, 0) AS whole_units,
        abs(split.busy_units) * weighed.piece_weight % nullif(split.hour_weight, 0) AS remainder
    FROM weighed
    INNER JOIN split ON weighed.replica = split.replica AND weighed.hour_number = split.hour_number
),
ranked AS (
    SELECT
        *,
        shared_units - sum(whole_units) OVER (PARTITION BY replica, hour_number) AS left_units,
        row_number() OVER (
            PARTITION BY replica, hour_number
            ORDER BY remainder DESC, trace_id, span_id
        ) AS place
    FROM quotas
),
amounts AS (
    SELECT
        hour_number,
        replica,
        coalesce(model, replica_model) AS model,
        CASE WHEN outcome <> 'ok' THEN 'wasted' WHEN team IS NULL THEN 'unattributed' ELSE 'request' END AS bucket,
        team,
        app,
        coalesce(bill_sign * (whole_units + (place <= left_units)::INTEGER), 0) AS amount_units,
        (hour_number = from_us // 3600000000)::INTEGER AS requests_count,
        CASE WHEN hour_number = from_us // 3600000000 THEN input_tokens END AS input_tokens,
        CASE WHEN hour_number = from_us // 3600000000 THEN cached_tokens END AS cached_tokens,
        CASE WHEN hour_number = from_us // 3600000000 THEN output_tokens END AS output_tokens
    FROM ranked
    UNION ALL
    SELECT hour_number, replica, model, 'warm_idle', NULL, NULL, bill_units - busy_units, 0, 0, 0, 0
    FROM split
    UNION ALL
    SELECT hour_number, replica, model, 'unattributed', NULL, NULL, busy_units, 0, 0, 0, 0
    FROM split
    WHERE hour_weight = 0 AND busy_units <> 0
)
SELECT
    make_timestamp(hour_number // 24 * 86400000000)::DATE AS day,
    replica,
    model,
    bucket,
    team,
    app,
    sum(amount_units)::BIGINT AS amount_units,
    sum(requests_count)::BIGINT AS requests_count,
    coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
    coalesce(sum(cached_tokens), 0)::BIGINT AS cached_tokens,
    coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens
FROM amounts
GROUP BY ALL
ORDER BY ALL
