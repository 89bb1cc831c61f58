-- settled_request_hours: requests of one hour with the same identity, outcome and judgement: counts and sums of tokens; key (hour_at, team, app, model, deployment, replica, mode, outcome, service_failed)
CREATE TABLE settled_request_hours (
    hour_at TIMESTAMP NOT NULL,
    team VARCHAR,
    app VARCHAR,
    model VARCHAR,
    deployment VARCHAR,
    replica VARCHAR,
    mode VARCHAR,
    outcome VARCHAR NOT NULL,
    service_failed BOOLEAN,
    requests_count BIGINT NOT NULL,
    input_tokens BIGINT,
    cached_tokens BIGINT,
    cacheable_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT
);
COMMENT ON COLUMN settled_request_hours.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN settled_request_hours.team IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.app IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.model IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.deployment IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.replica IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.mode IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.outcome IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.service_failed IS 'As in judged_requests. Source: judged_requests.';
COMMENT ON COLUMN settled_request_hours.requests_count IS 'Requests. Unit: requests. Source: requests.';
COMMENT ON COLUMN settled_request_hours.input_tokens IS 'Sum; a count beyond 10^12 is taken as that. Unit: tokens. Source: requests.';
COMMENT ON COLUMN settled_request_hours.cached_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN settled_request_hours.cacheable_tokens IS 'Sum of input_tokens where cached_tokens is known, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN settled_request_hours.output_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN settled_request_hours.reasoning_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON TABLE settled_request_hours IS 'requests of one hour with the same identity, outcome and judgement: counts and sums of tokens; key (hour_at, team, app, model, deployment, replica, mode, outcome, service_failed)';

-- settled_request_sketches: requests of one hour and model whose one measure is in one bucket of a log-bucket sketch (DDSketch, gamma 1.02); key (hour_at, model, measure, bucket)
CREATE TABLE settled_request_sketches (
    hour_at TIMESTAMP NOT NULL,
    model VARCHAR,
    measure VARCHAR NOT NULL,
    bucket INTEGER,
    requests_count BIGINT NOT NULL
);
COMMENT ON COLUMN settled_request_sketches.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN settled_request_sketches.model IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_sketches.measure IS 'ttft_seconds, tpot_seconds, e2e_seconds or queue_seconds. Source: requests.';
COMMENT ON COLUMN settled_request_sketches.bucket IS 'Values in (1.02^(bucket - 1), 1.02^bucket]; null: 0 or less. 2 * 1.02^bucket / 2.02 is within 1 % of each. Unit: 1. Source: requests.';
COMMENT ON COLUMN settled_request_sketches.requests_count IS 'Requests with outcome ok and a finite value in the bucket. Unit: requests. Source: requests.';
COMMENT ON TABLE settled_request_sketches IS 'requests of one hour and model whose one measure is in one bucket of a log-bucket sketch (DDSketch, gamma 1.02); key (hour_at, model, measure, bucket)';

-- stale_hours: one hour of whose requests some came since its rollups were computed
CREATE TABLE stale_hours (
    hour_at TIMESTAMP NOT NULL,
    PRIMARY KEY (hour_at)
);
COMMENT ON COLUMN stale_hours.hour_at IS 'The hour. Unit: UTC. Source: the collector, in the transaction that lands the requests.';
COMMENT ON TABLE stale_hours IS 'one hour of whose requests some came since its rollups were computed';
INSERT INTO stale_hours SELECT DISTINCT date_trunc('hour', started_at) FROM requests;

-- What the rollups are, computed from the requests; the variables only narrow what is read. `request_hours` and
-- `request_sketches` are what to ask: hours that are settled come from the tables, stale ones from the requests themselves,
-- so the answer is the same as from the requests at every moment.
CREATE VIEW computed_request_hours AS
SELECT
    date_trunc('hour', started_at) AS hour_at,
    team,
    app,
    model,
    deployment,
    replica,
    mode,
    outcome,
    service_failed,
    count(*) AS requests_count,
    sum(CASE WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END)::BIGINT AS input_tokens,
    sum(CASE WHEN cached_tokens > 1000000000000 THEN 1000000000000 ELSE cached_tokens END)::BIGINT AS cached_tokens,
    sum(CASE WHEN cached_tokens IS NULL THEN NULL WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END)::BIGINT AS cacheable_tokens,
    sum(CASE WHEN output_tokens > 1000000000000 THEN 1000000000000 ELSE output_tokens END)::BIGINT AS output_tokens,
    sum(CASE WHEN reasoning_tokens > 1000000000000 THEN 1000000000000 ELSE reasoning_tokens END)::BIGINT AS reasoning_tokens
FROM judged_requests
WHERE started_at >= coalesce(getvariable('rollup_from')::TIMESTAMP, TIMESTAMP '0001-01-01')
    AND started_at < coalesce(getvariable('rollup_until')::TIMESTAMP, TIMESTAMP '9999-12-31')
GROUP BY ALL;

CREATE VIEW computed_request_sketches AS
WITH measured AS (
    SELECT
        date_trunc('hour', started_at) AS hour_at,
        model,
        unnest(['ttft_seconds', 'tpot_seconds', 'e2e_seconds', 'queue_seconds']) AS measure,
        unnest([ttft_seconds, tpot_seconds, e2e_seconds, queue_seconds]) AS value
    FROM requests
    WHERE outcome = 'ok'
        AND started_at >= coalesce(getvariable('rollup_from')::TIMESTAMP, TIMESTAMP '0001-01-01')
        AND started_at < coalesce(getvariable('rollup_until')::TIMESTAMP, TIMESTAMP '9999-12-31')
)
SELECT
    hour_at,
    model,
    measure,
    CASE WHEN value > 0 THEN ceil(ln(value) / ln(1.02))::INTEGER END AS bucket,
    count(*) AS requests_count
FROM measured
WHERE isfinite(value)
GROUP BY ALL;

CREATE VIEW request_hours AS
SELECT * FROM settled_request_hours
WHERE hour_at NOT IN (SELECT hour_at FROM stale_hours)
UNION ALL
SELECT * FROM computed_request_hours
WHERE hour_at IN (SELECT hour_at FROM stale_hours);

CREATE VIEW request_sketches AS
SELECT * FROM settled_request_sketches
WHERE hour_at NOT IN (SELECT hour_at FROM stale_hours)
UNION ALL
SELECT * FROM computed_request_sketches
WHERE hour_at IN (SELECT hour_at FROM stale_hours);

COMMENT ON COLUMN computed_request_hours.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN computed_request_hours.team IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.app IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.model IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.deployment IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.replica IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.mode IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.outcome IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.service_failed IS 'As in judged_requests. Source: judged_requests.';
COMMENT ON COLUMN computed_request_hours.requests_count IS 'Requests. Unit: requests. Source: requests.';
COMMENT ON COLUMN computed_request_hours.input_tokens IS 'Sum; a count beyond 10^12 is taken as that. Unit: tokens. Source: requests.';
COMMENT ON COLUMN computed_request_hours.cached_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN computed_request_hours.cacheable_tokens IS 'Sum of input_tokens where cached_tokens is known, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN computed_request_hours.output_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN computed_request_hours.reasoning_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN request_hours.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN request_hours.team IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.app IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.model IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.deployment IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.replica IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.mode IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.outcome IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_hours.service_failed IS 'As in judged_requests. Source: judged_requests.';
COMMENT ON COLUMN request_hours.requests_count IS 'Requests. Unit: requests. Source: requests.';
COMMENT ON COLUMN request_hours.input_tokens IS 'Sum; a count beyond 10^12 is taken as that. Unit: tokens. Source: requests.';
COMMENT ON COLUMN request_hours.cached_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN request_hours.cacheable_tokens IS 'Sum of input_tokens where cached_tokens is known, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN request_hours.output_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON COLUMN request_hours.reasoning_tokens IS 'Sum, cut likewise. Unit: tokens. Source: requests.';
COMMENT ON VIEW request_hours IS 'requests of one hour with the same identity, outcome and judgement: counts and sums of tokens';
COMMENT ON COLUMN computed_request_sketches.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN computed_request_sketches.model IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_sketches.measure IS 'ttft_seconds, tpot_seconds, e2e_seconds or queue_seconds. Source: requests.';
COMMENT ON COLUMN computed_request_sketches.bucket IS 'Values in (1.02^(bucket - 1), 1.02^bucket]; null: 0 or less. 2 * 1.02^bucket / 2.02 is within 1 % of each. Unit: 1. Source: requests.';
COMMENT ON COLUMN computed_request_sketches.requests_count IS 'Requests with outcome ok and a finite value in the bucket. Unit: requests. Source: requests.';
COMMENT ON COLUMN request_sketches.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN request_sketches.model IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_sketches.measure IS 'ttft_seconds, tpot_seconds, e2e_seconds or queue_seconds. Source: requests.';
COMMENT ON COLUMN request_sketches.bucket IS 'Values in (1.02^(bucket - 1), 1.02^bucket]; null: 0 or less. 2 * 1.02^bucket / 2.02 is within 1 % of each. Unit: 1. Source: requests.';
COMMENT ON COLUMN request_sketches.requests_count IS 'Requests with outcome ok and a finite value in the bucket. Unit: requests. Source: requests.';
COMMENT ON VIEW request_sketches IS 'requests of one hour and model whose one measure is in one bucket of a log-bucket sketch (DDSketch, gamma 1.02)';
