-- gpu_energy_hour: energy that the GPUs of one replica used in one hour, in whole millijoules
-- Between two samples of a GPU: the difference of its energy counter; where the counter is absent or went back (a driver was
-- loaded anew), mean power times time, unless the gap is over $gap_seconds: then nothing is known of it. What lies between two
-- samples is spread over the hours evenly, so that the parts of hours add up exactly. Samples before $start and after $end are
-- read up to the gap, so that the edges of the range lose nothing.
WITH samples AS (
    SELECT
        gpu_uuid,
        epoch_us(sampled_at) AS at_us,
        replica,
        CASE WHEN isfinite(power_watts) AND power_watts >= 0 AND power_watts < 1e6 THEN power_watts END AS power_watts,
        CASE WHEN isfinite(energy_joules) AND energy_joules >= 0 AND energy_joules < 1e15 THEN energy_joules END AS energy_joules
    FROM gpu_samples
    WHERE sampled_at >= $start::TIMESTAMP - to_seconds($gap_seconds::BIGINT)
        AND sampled_at <= $end::TIMESTAMP + to_seconds($gap_seconds::BIGINT)
),
steps AS (
    SELECT
        coalesce(replica, lag(replica) OVER gpu) AS replica,
        gpu_uuid,
        lag(at_us) OVER gpu AS from_us,
        at_us AS to_us,
        energy_joules - lag(energy_joules) OVER gpu AS counted_joules,
        (power_watts + lag(power_watts) OVER gpu) / 2 * (at_us - lag(at_us) OVER gpu) / 1e6 AS integrated_joules
    FROM samples
    WINDOW gpu AS (PARTITION BY gpu_uuid ORDER BY at_us)
),
used AS (
    SELECT
        replica,
        gpu_uuid,
        from_us,
        to_us,
        counted_joules IS NULL OR counted_joules < 0 AS integrated,
        (CASE WHEN counted_joules >= 0 THEN counted_joules ELSE integrated_joules END * 1000)::BIGINT AS millijoules
    FROM steps
    WHERE to_us > from_us
        AND replica IS NOT NULL
        AND to_us - from_us <= $gap_seconds::BIGINT * 1000000
        AND (counted_joules >= 0 OR integrated_joules IS NOT NULL)
),
cut AS (
    SELECT *, unnest(range(from_us // 3600000000, (to_us - 1) // 3600000000 + 1)) AS hour_number
    FROM used
),
pieces AS (
    SELECT
        replica,
        gpu_uuid,
        hour_number,
        integrated,
        greatest(from_us, hour_number * 3600000000) AS piece_from_us,
        least(to_us, (hour_number + 1) * 3600000000) AS piece_to_us,
        (
            millijoules::HUGEINT * (piece_to_us - from_us) // (to_us - from_us)
            - millijoules::HUGEINT * (piece_from_us - from_us) // (to_us - from_us)
        ) AS millijoules
    FROM cut
)
SELECT
    replica,
    make_timestamp(hour_number * 3600000000) AS hour_at,
    sum(millijoules)::BIGINT AS millijoules,
    coalesce(sum(millijoules) FILTER (WHERE integrated), 0)::BIGINT AS integrated_millijoules,
    sum(piece_to_us - piece_from_us)::BIGINT AS measured_gpu_microseconds
FROM pieces
WHERE hour_number * 3600000000 >= epoch_us($start::TIMESTAMP)
    AND hour_number * 3600000000 < epoch_us($end::TIMESTAMP)
GROUP BY replica, hour_number
ORDER BY replica, hour_number
