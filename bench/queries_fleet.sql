-- requests of a made fleet, in order of time, every value a function of the row's number: the same file on any machine
INSERT INTO requests (
    trace_id, span_id, started_at, ended_at, team, app, user_hash, api_key_hash, model, deployment, replica, cluster, region,
    engine, engine_version, gpu_type, gpu_count, endpoint, mode, stream, outcome, finish_reason, error_type, input_tokens,
    cached_tokens, output_tokens, ttft_seconds, tpot_seconds, max_gap_seconds, e2e_seconds, queue_seconds, prefill_seconds,
    decode_seconds, preemptions_count, source, estimated, attributes, received_at, identity_trust, http_status
)
WITH numbered AS (
    SELECT
        number,
        md5(number::VARCHAR) AS digest,
        -- Three scattered numbers of 32 bits.
        (number * 2654435761) % 4294967296 AS one,
        (number * 2246822519 + 374761393) % 4294967296 AS two,
        (number * 3266489917 + 668265263) % 4294967296 AS three
    FROM range($first::BIGINT, $last::BIGINT) AS numbers(number)
),
drawn AS (
    SELECT
        *,
        TIMESTAMP '2026-10-01' + to_microseconds((number * $step_us::BIGINT + one % $step_us::BIGINT)::BIGINT) AS started_at,
        (one // 8) % 24 AS replica_number,
        (two // 16) % 12 AS team_number,
        (50 + (one // 1024) % 2000 * ((two // 64) % 8 + 1) // 4)::BIGINT AS input_tokens,
        (5 + (three // 512) % 400 * ((one // 32) % 4 + 1) // 2)::BIGINT AS output_tokens,
        three % 1000 AS luck,
        0.03 + exp((two % 65536) / 65536.0 * 4) / 40 AS ttft_seconds,
        0.008 + (three % 4096) / 4096.0 * 0.04 AS tpot_seconds
    FROM numbered
),
timed AS (
    SELECT *, ttft_seconds + tpot_seconds * output_tokens AS e2e_seconds, luck < 992 AS fine
    FROM drawn
)
SELECT
    digest,
    substr(md5(digest), 1, 16),
    started_at,
    started_at + to_microseconds((e2e_seconds * 1000000)::BIGINT),
    CASE WHEN team_number < 11 THEN 'team-' || team_number END,
    'app-' || team_number % 5,
    substr(digest, 1, 12),
    'key-' || team_number,
    'model-' || replica_number % 6,
    'deployment-' || replica_number % 6,
    'replica-' || replica_number,
    'eu-1',
    'eu',
    'vllm',
    '0.32.0',
    'H100-SXM5-80GB',
    1,
    '/v1/chat/completions',
    'live',
    true,
    CASE WHEN fine THEN 'ok' WHEN luck < 995 THEN 'error' WHEN luck < 998 THEN 'client_disconnect' ELSE 'rejected' END,
    CASE WHEN fine THEN 'stop' END,
    CASE WHEN luck BETWEEN 992 AND 994 THEN 'InternalServerError' WHEN luck >= 998 THEN '429' END,
    input_tokens,
    input_tokens * ((two // 128) % 10) // 12,
    CASE WHEN fine THEN output_tokens END,
    CASE WHEN luck < 998 THEN ttft_seconds END,
    CASE WHEN luck < 998 THEN tpot_seconds END,
    CASE WHEN luck < 998 THEN tpot_seconds * 3 END,
    e2e_seconds,
    ttft_seconds / 5,
    ttft_seconds * 0.7,
    tpot_seconds * output_tokens,
    (luck = 7)::INTEGER,
    'simulator',
    false,
    MAP {'http.request.header.priority': (one % 4)::VARCHAR},
    started_at + to_microseconds((e2e_seconds * 1000000)::BIGINT + 400000),
    'verified',
    CASE WHEN fine THEN 200 WHEN luck < 995 THEN 500 WHEN luck < 998 THEN 200 ELSE 429 END
FROM timed
ORDER BY started_at
