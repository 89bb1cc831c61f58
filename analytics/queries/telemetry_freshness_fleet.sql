-- telemetry_freshness_fleet: one row: how fresh, complete and attributed the requests of the last $window_seconds are
-- A request is in the window by its start; nulls where there is none.
WITH recent AS (
    SELECT *
    FROM requests
    WHERE started_at >= $now::TIMESTAMP - to_seconds($window_seconds::BIGINT)
        AND started_at < $now::TIMESTAMP
)
SELECT
    (SELECT max(received_at) FROM requests WHERE received_at <= $now::TIMESTAMP) AS last_received_at,
    (SELECT max(started_at) FROM requests WHERE started_at <= $now::TIMESTAMP) AS last_started_at,
    count(*) AS requests_count,
    count(*) / ($window_seconds::BIGINT / 60.0) AS requests_per_minute,
    count(*) FILTER (WHERE team IS NULL) / nullif(count(*), 0) AS unattributed_ratio,
    count(*) FILTER (WHERE estimated) / nullif(count(*), 0) AS estimated_ratio,
    quantile_cont(epoch(received_at - ended_at), 0.95) AS landing_delay_p95_seconds,
    count(*) FILTER (WHERE model IS NULL) / nullif(count(*), 0) AS model_null_ratio,
    count(*) FILTER (WHERE team IS NULL) / nullif(count(*), 0) AS team_null_ratio,
    count(*) FILTER (WHERE replica IS NULL) / nullif(count(*), 0) AS replica_null_ratio,
    count(*) FILTER (WHERE ended_at IS NULL) / nullif(count(*), 0) AS ended_at_null_ratio,
    count(*) FILTER (WHERE input_tokens IS NULL) / nullif(count(*), 0) AS input_tokens_null_ratio,
    count(*) FILTER (WHERE cached_tokens IS NULL) / nullif(count(*), 0) AS cached_tokens_null_ratio,
    count(*) FILTER (WHERE output_tokens IS NULL) / nullif(count(*), 0) AS output_tokens_null_ratio,
    count(*) FILTER (WHERE outcome = 'ok' AND ttft_seconds IS NULL)
    / nullif(count(*) FILTER (WHERE outcome = 'ok'), 0) AS ttft_seconds_null_ratio,
    count(*) FILTER (WHERE outcome = 'ok' AND output_tokens > 1 AND tpot_seconds IS NULL)
    / nullif(count(*) FILTER (WHERE outcome = 'ok' AND output_tokens > 1), 0) AS tpot_seconds_null_ratio,
    count(*) FILTER (WHERE outcome = 'ok' AND queue_seconds IS NULL)
    / nullif(count(*) FILTER (WHERE outcome = 'ok'), 0) AS queue_seconds_null_ratio
FROM recent
