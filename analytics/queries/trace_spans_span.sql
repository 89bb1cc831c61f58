-- trace_spans_span: one span of one trace that is not a request, in the order of their starts
SELECT
    span_id,
    parent_span_id,
    name,
    started_at,
    coalesce(duration_seconds, epoch(ended_at - started_at)) AS duration_seconds,
    kind,
    status,
    to_json(attributes)::VARCHAR AS attributes
FROM spans
WHERE trace_id = $trace_id::VARCHAR
ORDER BY started_at, span_id
