-- The next message of one receiver: the first of its alert that is not finished, and due.
SELECT
    outbox.seq, outbox.id, outbox.receiver, outbox.fingerprint, outbox.episode, outbox.kind, outbox.severity,
    outbox.body, outbox.created_at, outbox.expires_at, outbox.next_at, outbox.attempts_count, outbox.status, outbox.finished_at,
    outbox.last_error
FROM (
    SELECT min(seq) AS seq
    FROM outbox
    WHERE status = 'pending' AND receiver = $receiver
    GROUP BY fingerprint
) AS head
JOIN outbox ON outbox.seq = head.seq
WHERE outbox.next_at <= $now
ORDER BY outbox.next_at, outbox.seq
LIMIT 1
