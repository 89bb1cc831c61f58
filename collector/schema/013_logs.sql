-- logs: one log record; key (logged_at, log_hash)
CREATE TABLE logs (
    logged_at TIMESTAMP NOT NULL,
    log_hash BIGINT NOT NULL,
    severity VARCHAR,
    severity_number INTEGER,
    event_name VARCHAR,
    body VARCHAR,
    trace_id VARCHAR,
    span_id VARCHAR,
    service VARCHAR,
    scope VARCHAR,
    replica VARCHAR,
    attributes MAP(VARCHAR, VARCHAR),
    received_at TIMESTAMP
);
COMMENT ON COLUMN logs.logged_at IS 'When it was written, or seen where that is not said. Unit: UTC, microseconds. Source: the record.';
COMMENT ON COLUMN logs.log_hash IS '64 bits of a hash over the whole record, so that a retry is no second record. Unit: 1. Source: the collector.';
COMMENT ON COLUMN logs.severity IS 'trace, debug, info, warn, error or fatal; null is not said. Source: the record.';
COMMENT ON COLUMN logs.severity_number IS 'OpenTelemetry''s number of the severity, 1 to 24. Unit: 1. Source: the record.';
COMMENT ON COLUMN logs.event_name IS 'Name of the event, where the record is one. Source: the record.';
COMMENT ON COLUMN logs.body IS 'What it says; null where it carried a prompt or a completion, which are not stored. Source: the record.';
COMMENT ON COLUMN logs.trace_id IS 'W3C trace id of the span in which it was written, 32 lowercase hex digits. Source: the record.';
COMMENT ON COLUMN logs.span_id IS 'Span id of that span, 16 lowercase hex digits. Source: the record.';
COMMENT ON COLUMN logs.service IS 'service.name. Source: the resource.';
COMMENT ON COLUMN logs.scope IS 'Instrumentation scope, the logger''s name. Source: the record.';
COMMENT ON COLUMN logs.replica IS 'The server. Source: the resource.';
COMMENT ON COLUMN logs.attributes IS 'Attributes of record and resource. Source: the record.';
COMMENT ON COLUMN logs.received_at IS 'When the collector made it durable. Unit: UTC, microseconds. Source: the collector.';
COMMENT ON TABLE logs IS 'one log record; key (logged_at, log_hash)';
