-- spans: one span that is not a request: gateway, retrieval, tool, agent, engine phases and start-up; key (trace_id, span_id)
CREATE TABLE spans (
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    parent_span_id VARCHAR,
    name VARCHAR NOT NULL,
    kind VARCHAR,
    service VARCHAR,
    scope VARCHAR,
    started_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP,
    duration_seconds DOUBLE,
    status VARCHAR,
    status_message VARCHAR,
    replica VARCHAR,
    attributes MAP(VARCHAR, VARCHAR),
    received_at TIMESTAMP
);
COMMENT ON COLUMN spans.trace_id IS 'W3C trace id, 32 lowercase hex digits. Source: the span.';
COMMENT ON COLUMN spans.span_id IS 'Span id, 16 lowercase hex digits. Source: the span.';
COMMENT ON COLUMN spans.parent_span_id IS 'Span id of the parent; null at the root. Source: the span.';
COMMENT ON COLUMN spans.name IS 'Name of the operation. Source: the span.';
COMMENT ON COLUMN spans.kind IS 'internal, server, client, producer or consumer. Source: the span.';
COMMENT ON COLUMN spans.service IS 'service.name. Source: the resource.';
COMMENT ON COLUMN spans.scope IS 'Instrumentation scope. Source: the span.';
COMMENT ON COLUMN spans.started_at IS 'Start. Unit: UTC, microseconds. Source: the span.';
COMMENT ON COLUMN spans.ended_at IS 'End. Unit: UTC, microseconds. Source: the span.';
COMMENT ON COLUMN spans.duration_seconds IS 'End less start, from nanoseconds. Unit: s. Source: the span.';
COMMENT ON COLUMN spans.status IS 'unset, ok or error. Source: the span.';
COMMENT ON COLUMN spans.status_message IS 'What the error said. Source: the span.';
COMMENT ON COLUMN spans.replica IS 'The server. Source: the resource.';
COMMENT ON COLUMN spans.attributes IS 'Attributes of span and resource. Source: the span.';
COMMENT ON COLUMN spans.received_at IS 'When the collector made it durable. Unit: UTC, microseconds. Source: the collector.';
COMMENT ON TABLE spans IS 'one span that is not a request: gateway, retrieval, tool, agent, engine phases and start-up; key (trace_id, span_id)';
