-- trace_requests_request: one request of one trace, in the order of arrival
SELECT *
FROM requests
WHERE trace_id = $trace_id::VARCHAR
ORDER BY started_at, span_id
