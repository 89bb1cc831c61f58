-- settled_request_arrivals: requests of one hour and team: how many, what tells whether they are the same as before, and when they ended; key (hour_at, team)
CREATE TABLE settled_request_arrivals (
    hour_at TIMESTAMP NOT NULL,
    team VARCHAR,
    requests_count BIGINT NOT NULL,
    received_sum BIGINT NOT NULL,
    first_event_at TIMESTAMP NOT NULL,
    last_event_at TIMESTAMP NOT NULL,
    last_end_at TIMESTAMP
);
COMMENT ON COLUMN settled_request_arrivals.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN settled_request_arrivals.team IS 'As in requests. Source: requests.';
COMMENT ON COLUMN settled_request_arrivals.requests_count IS 'Requests. Unit: requests. Source: requests.';
COMMENT ON COLUMN settled_request_arrivals.received_sum IS 'Sum of their received_at in microseconds, each modulo 2^32; a null is 0. Rows land once and do not change, so it and the count are other ones whenever the requests are. Unit: 1. Source: requests.';
COMMENT ON COLUMN settled_request_arrivals.first_event_at IS 'The earliest end of one of them; one without an end is taken at its start. Unit: UTC, microseconds. Source: requests.';
COMMENT ON COLUMN settled_request_arrivals.last_event_at IS 'The latest of these. Unit: UTC, microseconds. Source: requests.';
COMMENT ON COLUMN settled_request_arrivals.last_end_at IS 'The latest end of one of them, or start plus e2e_seconds where it tells no end; null where none tells either. Unit: UTC, microseconds. Source: requests.';
COMMENT ON TABLE settled_request_arrivals IS 'requests of one hour and team: how many, what tells whether they are the same as before, and when they ended; key (hour_at, team)';

-- Hours that were settled before this file lack it: they are computed anew.
INSERT OR IGNORE INTO stale_hours SELECT DISTINCT date_trunc('hour', started_at) FROM requests;
INSERT OR IGNORE INTO stale_hours SELECT DISTINCT hour_at FROM settled_request_hours;

-- As the other rollups: `request_arrivals` is what to ask.
CREATE VIEW computed_request_arrivals AS
SELECT
    date_trunc('hour', started_at) AS hour_at,
    team,
    count(*) AS requests_count,
    sum(coalesce(epoch_us(received_at), 0) % 4294967296)::BIGINT AS received_sum,
    min(coalesce(ended_at, started_at)) AS first_event_at,
    max(coalesce(ended_at, started_at)) AS last_event_at,
    max(
        CASE
            WHEN ended_at IS NOT NULL THEN ended_at
            WHEN isfinite(e2e_seconds)
                THEN started_at + to_microseconds((least(greatest(e2e_seconds, 0), 1e9) * 1000000)::BIGINT)
        END
    ) AS last_end_at
FROM requests
WHERE started_at >= coalesce(getvariable('rollup_from')::TIMESTAMP, TIMESTAMP '0001-01-01')
    AND started_at < coalesce(getvariable('rollup_until')::TIMESTAMP, TIMESTAMP '9999-12-31')
GROUP BY ALL;

CREATE VIEW request_arrivals AS
SELECT * FROM settled_request_arrivals
WHERE hour_at NOT IN (SELECT hour_at FROM stale_hours)
UNION ALL
SELECT * FROM computed_request_arrivals
WHERE hour_at IN (SELECT hour_at FROM stale_hours);

COMMENT ON COLUMN computed_request_arrivals.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN computed_request_arrivals.team IS 'As in requests. Source: requests.';
COMMENT ON COLUMN computed_request_arrivals.requests_count IS 'Requests. Unit: requests. Source: requests.';
COMMENT ON COLUMN computed_request_arrivals.received_sum IS 'Sum of their received_at in microseconds, each modulo 2^32; a null is 0. Rows land once and do not change, so it and the count are other ones whenever the requests are. Unit: 1. Source: requests.';
COMMENT ON COLUMN computed_request_arrivals.first_event_at IS 'The earliest end of one of them; one without an end is taken at its start. Unit: UTC, microseconds. Source: requests.';
COMMENT ON COLUMN computed_request_arrivals.last_event_at IS 'The latest of these. Unit: UTC, microseconds. Source: requests.';
COMMENT ON COLUMN computed_request_arrivals.last_end_at IS 'The latest end of one of them, or start plus e2e_seconds where it tells no end; null where none tells either. Unit: UTC, microseconds. Source: requests.';
COMMENT ON VIEW computed_request_arrivals IS 'requests of one hour and team: how many, what tells whether they are the same as before, and when they ended';
COMMENT ON COLUMN request_arrivals.hour_at IS 'The hour in which the requests arrived. Unit: UTC. Source: requests.started_at.';
COMMENT ON COLUMN request_arrivals.team IS 'As in requests. Source: requests.';
COMMENT ON COLUMN request_arrivals.requests_count IS 'Requests. Unit: requests. Source: requests.';
COMMENT ON COLUMN request_arrivals.received_sum IS 'Sum of their received_at in microseconds, each modulo 2^32; a null is 0. Rows land once and do not change, so it and the count are other ones whenever the requests are. Unit: 1. Source: requests.';
COMMENT ON COLUMN request_arrivals.first_event_at IS 'The earliest end of one of them; one without an end is taken at its start. Unit: UTC, microseconds. Source: requests.';
COMMENT ON COLUMN request_arrivals.last_event_at IS 'The latest of these. Unit: UTC, microseconds. Source: requests.';
COMMENT ON COLUMN request_arrivals.last_end_at IS 'The latest end of one of them, or start plus e2e_seconds where it tells no end; null where none tells either. Unit: UTC, microseconds. Source: requests.';
COMMENT ON VIEW request_arrivals IS 'requests of one hour and team: how many, what tells whether they are the same as before, and when they ended';
