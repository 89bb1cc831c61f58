-- requests: how far its identity is to be trusted, its HTTP status, and its share of the engine's steps
DROP VIEW judged_requests;
ALTER TABLE requests ADD COLUMN identity_trust VARCHAR;
ALTER TABLE requests ADD COLUMN http_status INTEGER;
ALTER TABLE requests ADD COLUMN prefill_step_seconds DOUBLE;
ALTER TABLE requests ADD COLUMN decode_step_seconds DOUBLE;
COMMENT ON COLUMN requests.identity_trust IS 'How team, app and user are known: verified (API key or signed token), trusted_header, asserted (the client''s word); null is unknown. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.http_status IS 'The HTTP status that the client got; a stream''s error comes after its 200. Unit: HTTP status code. Source: the exporter (HTTP half).';
COMMENT ON COLUMN requests.prefill_step_seconds IS 'Its share of the time of the engine steps that prefilled it. Unit: s. Source: the engine (stat logger).';
COMMENT ON COLUMN requests.decode_step_seconds IS 'Its share of the time of the engine steps that decoded it. Unit: s. Source: the engine (stat logger).';
-- A request refused through the client's own fault (a 4xx other than 408 and 429, by number or by the name that OpenAI-style
-- servers give it) is no event of availability: null. A migration that adds a column to `requests` creates this view anew.
CREATE VIEW judged_requests AS
SELECT
    *,
    CASE
        WHEN outcome IN ('error', 'engine_dead') THEN true
        WHEN outcome <> 'rejected' THEN false
        WHEN error_type IN (
            'BadRequestError', 'AuthenticationError', 'PermissionDeniedError', 'NotFoundError', 'UnprocessableEntityError',
            'RequestEntityTooLargeError', 'BadRequest', 'Unauthorized', 'Forbidden', 'NotFound', 'invalid_request_error'
        ) THEN NULL
        WHEN length(error_type) = 3 AND error_type LIKE '4%' AND error_type NOT IN ('408', '429') THEN NULL
        WHEN error_type IS NULL AND http_status BETWEEN 400 AND 499 AND http_status NOT IN (408, 429) THEN NULL
        ELSE true
    END AS service_failed
FROM requests;
COMMENT ON VIEW judged_requests IS 'one inference request as one server saw it, with the judgement whether the service failed it';
COMMENT ON COLUMN judged_requests.service_failed IS 'Whether the service failed the request; null where its client was at fault (no event of availability). Source: outcome, error_type and http_status.';
