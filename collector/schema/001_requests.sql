-- requests: one inference request as one server saw it; key (trace_id, span_id)
CREATE TABLE requests (
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP,
    team VARCHAR,
    app VARCHAR,
    user_hash VARCHAR,
    api_key_hash VARCHAR,
    model VARCHAR,
    adapter VARCHAR,
    deployment VARCHAR,
    replica VARCHAR,
    cluster VARCHAR,
    region VARCHAR,
    engine VARCHAR,
    engine_version VARCHAR,
    gpu_type VARCHAR,
    gpu_count INTEGER,
    endpoint VARCHAR,
    mode VARCHAR,
    stream BOOLEAN,
    outcome VARCHAR NOT NULL,
    finish_reason VARCHAR,
    error_type VARCHAR,
    input_tokens BIGINT,
    cached_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT,
    ttft_seconds DOUBLE,
    tpot_seconds DOUBLE,
    max_gap_seconds DOUBLE,
    e2e_seconds DOUBLE,
    queue_seconds DOUBLE,
    prefill_seconds DOUBLE,
    decode_seconds DOUBLE,
    preemptions_count INTEGER,
    source VARCHAR NOT NULL,
    estimated BOOLEAN NOT NULL,
    attributes MAP(VARCHAR, VARCHAR),
    received_at TIMESTAMP
);
COMMENT ON COLUMN requests.trace_id IS 'W3C trace id, 32 lowercase hex digits. Source: the span.';
COMMENT ON COLUMN requests.span_id IS 'Span id, 16 lowercase hex digits. Source: the span.';
COMMENT ON COLUMN requests.started_at IS 'Arrival at the server. Unit: UTC, microseconds. Source: the span.';
COMMENT ON COLUMN requests.ended_at IS 'Last byte sent, or the moment it broke off. Unit: UTC, microseconds. Source: the span.';
COMMENT ON COLUMN requests.team IS 'The team that is charged; null is unattributed. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.app IS 'The application of that team. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.user_hash IS 'Salted hash of the end user. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.api_key_hash IS 'Salted hash of the API key. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.model IS 'The base model. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.adapter IS 'The LoRA adapter, if any. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.deployment IS 'The deployment of the replica. Source: the resource.';
COMMENT ON COLUMN requests.replica IS 'The server that answered. Source: the resource.';
COMMENT ON COLUMN requests.cluster IS 'The cluster. Source: the resource.';
COMMENT ON COLUMN requests.region IS 'The region or site. Source: the resource.';
COMMENT ON COLUMN requests.engine IS 'vllm, sglang … Source: the resource.';
COMMENT ON COLUMN requests.engine_version IS 'The version of the engine. Source: the resource.';
COMMENT ON COLUMN requests.gpu_type IS 'The GPU model. Source: the resource.';
COMMENT ON COLUMN requests.gpu_count IS 'GPUs of the replica. Unit: GPUs. Source: the resource.';
COMMENT ON COLUMN requests.endpoint IS 'The route. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.mode IS 'live, async or batch. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.stream IS 'Whether the client asked for a stream. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.outcome IS 'ok, client_disconnect, rejected, error or engine_dead. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.finish_reason IS 'Why generation stopped: stop, length, abort, error … Source: the engine (stat logger).';
COMMENT ON COLUMN requests.error_type IS 'Class of the error or HTTP status. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.input_tokens IS 'Prompt tokens, cached ones included. Unit: tokens. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.cached_tokens IS 'Prompt tokens read from the prefix cache. Unit: tokens. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.output_tokens IS 'Generated tokens. Unit: tokens. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.reasoning_tokens IS 'Generated tokens that were reasoning. Unit: tokens. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.ttft_seconds IS 'Arrival to first token. Unit: s. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.tpot_seconds IS 'Mean time per output token after the first. Unit: s. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.max_gap_seconds IS 'Longest silence between two streamed chunks. Unit: s. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.e2e_seconds IS 'Arrival to last byte. Unit: s. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.queue_seconds IS 'Time waiting for the scheduler. Unit: s. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.prefill_seconds IS 'Scheduled to first token. Unit: s. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.decode_seconds IS 'First to last token. Unit: s. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.preemptions_count IS 'How often it was preempted. Unit: preemptions. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.source IS 'Who measured the row: vllm_exporter, vllm_span, simulator, import_azure … Source: the receiver.';
COMMENT ON COLUMN requests.estimated IS 'True where a count was inferred rather than counted. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.attributes IS 'Everything else that the span carried. Source: the span.';
COMMENT ON COLUMN requests.received_at IS 'When the collector made it durable. Unit: UTC, microseconds. Source: the collector.';
COMMENT ON TABLE requests IS 'one inference request as one server saw it; key (trace_id, span_id)';
