-- Deliveries, the latest first; of one alert where a fingerprint is given.
SELECT
    seq, id, receiver, fingerprint, episode, kind, severity, created_at, expires_at, next_at, attempts_count, status,
    finished_at, last_error
FROM outbox
WHERE $fingerprint IS NULL OR fingerprint = $fingerprint
ORDER BY seq DESC
LIMIT $limit
