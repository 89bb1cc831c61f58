-- cost_requests_row: one request in the engine at some time of a range, as the cost ledger reads it
-- $start, $end: the range. $part of $parts: a slice of the replicas (a large answer is fetched in slices); $replicas: these
-- alone; null is all. $salt: of the key, which stands for everything that entries are told apart by (see cost_keys_key).
-- $by: what more they are told apart by: any of adapter, api_key_hash, user_hash, mode. $known_at: only requests that were
-- received by then; null is all. Whoever needs no ids selects the other columns: ids are most of a row's bytes.
-- A request that began earlier is looked for by its end, or by its length; each branch reads little of a table that is
-- mostly in order of time. NaN stands for an unknown time, -1 for an unknown count.
-- state: 0 answered, 1 ran and failed, 2 never came into the engine: rejected, or without a trace of having been scheduled.
WITH found AS (
    SELECT *
    FROM requests
    WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
    UNION ALL
    SELECT *
    FROM requests
    WHERE ended_at >= $start::TIMESTAMP AND started_at < $start::TIMESTAMP
    UNION ALL
    SELECT *
    FROM requests
    WHERE ended_at IS NULL
        AND started_at < $start::TIMESTAMP
        AND isfinite(e2e_seconds)
        AND epoch_us(started_at) + (least(e2e_seconds, 1e9) * 1000000)::BIGINT >= epoch_us($start::TIMESTAMP)
)
SELECT
    hash(
        $salt::INTEGER,
        replica,
        model,
        team,
        app,
        outcome <> 'ok',
        CASE WHEN list_contains($by::VARCHAR[], 'adapter') THEN adapter END,
        CASE WHEN list_contains($by::VARCHAR[], 'api_key_hash') THEN api_key_hash END,
        CASE WHEN list_contains($by::VARCHAR[], 'user_hash') THEN user_hash END,
        CASE WHEN list_contains($by::VARCHAR[], 'mode') THEN mode END
    ) AS key,
    trace_id,
    span_id,
    started_at AS started,
    coalesce(
        ended_at,
        started_at + to_microseconds((CASE WHEN isfinite(e2e_seconds) THEN least(greatest(e2e_seconds, 0), 1e9) END * 1000000)::BIGINT),
        started_at
    ) AS ended,
    coalesce(queue_seconds, 'nan'::DOUBLE) AS queue,
    coalesce(prefill_seconds, 'nan'::DOUBLE) AS prefill,
    coalesce(decode_seconds, 'nan'::DOUBLE) AS decode,
    coalesce(prefill_step_seconds, 'nan'::DOUBLE) AS prefill_steps,
    coalesce(decode_step_seconds, 'nan'::DOUBLE) AS decode_steps,
    coalesce(input_tokens, -1) AS prompt,
    coalesce(cached_tokens, -1) AS cached,
    coalesce(output_tokens, -1) AS made,
    coalesce(preemptions_count, 0) AS preemptions,
    CASE
        WHEN outcome = 'ok' THEN 0
        WHEN outcome = 'rejected' THEN 2
        WHEN queue_seconds IS NULL
            AND prefill_seconds IS NULL
            AND prefill_step_seconds IS NULL
            AND coalesce(output_tokens, 0) = 0 THEN 2
        ELSE 1
    END::TINYINT AS state
FROM found
WHERE replica IS NOT NULL
    AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
    AND ($parts::UBIGINT = 1 OR hash(replica) % $parts::UBIGINT = $part::UBIGINT)
    AND ($replicas::VARCHAR[] IS NULL OR list_contains($replicas::VARCHAR[], replica))
