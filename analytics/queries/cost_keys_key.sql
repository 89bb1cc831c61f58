-- cost_keys_key: one key of the entries of the cost ledger: a replica, and who asked it for which model, with what success
-- $start, $end, $parts, $salt, $by, $known_at: see cost_requests_row, whose rows carry the key alone.
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
),
told_apart AS (
    SELECT
        replica,
        model,
        team,
        app,
        outcome <> 'ok' AS failed,
        CASE WHEN list_contains($by::VARCHAR[], 'adapter') THEN adapter END AS adapter,
        CASE WHEN list_contains($by::VARCHAR[], 'api_key_hash') THEN api_key_hash END AS api_key_hash,
        CASE WHEN list_contains($by::VARCHAR[], 'user_hash') THEN user_hash END AS user_hash,
        CASE WHEN list_contains($by::VARCHAR[], 'mode') THEN mode END AS mode,
        count(*) AS requests_count
    FROM found
    WHERE replica IS NOT NULL
        AND ($known_at::TIMESTAMP IS NULL OR received_at IS NULL OR received_at <= $known_at::TIMESTAMP)
    GROUP BY ALL
)
SELECT
    hash(
        $salt::INTEGER, replica, model, team, app, failed, adapter, api_key_hash, user_hash, mode
    ) AS key,
    replica,
    model,
    team,
    app,
    failed,
    adapter,
    api_key_hash,
    user_hash,
    mode,
    requests_count,
    hash(replica) % $parts::UBIGINT AS part
FROM told_apart
ORDER BY replica, model, team, app, failed, adapter, api_key_hash, user_hash, mode
