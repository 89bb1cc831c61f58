-- judged_requests: one inference request as one server saw it, with the judgement whether the service failed it
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
        ELSE true
    END AS service_failed
FROM requests;
COMMENT ON VIEW judged_requests IS 'one inference request as one server saw it, with the judgement whether the service failed it';
COMMENT ON COLUMN judged_requests.service_failed IS 'Whether the service failed the request; null where its client was at fault (no event of availability). Source: outcome and error_type.';
