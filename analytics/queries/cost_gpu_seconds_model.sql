-- cost_gpu_seconds_model: one model, and the GPU time of its replicas in one range of time
-- $start, $end: the range. Overlapping rows of one replica count each.
SELECT
    model,
    coalesce(
        sum(
            gpu_count * date_diff(
                'second',
                greatest(valid_from, $start::TIMESTAMP),
                least(coalesce(valid_to, $end::TIMESTAMP), $end::TIMESTAMP)
            )
        ),
        0
    )::BIGINT AS gpu_seconds
FROM replicas
WHERE valid_from < $end::TIMESTAMP AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
GROUP BY model
ORDER BY model
