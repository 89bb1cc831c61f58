-- Forget an episode of which no word was sent: its fire still waits untried. An attempted fire may have arrived, and stays.
UPDATE outbox
SET status = 'dropped', finished_at = $now, last_error = 'over before it could be sent'
WHERE
    status = 'pending' AND receiver = $receiver AND fingerprint = $fingerprint AND episode = $episode
    AND EXISTS (
        SELECT 1
        FROM outbox AS fire
        WHERE
            fire.receiver = $receiver AND fire.fingerprint = $fingerprint AND fire.episode = $episode
            AND fire.kind = 'firing' AND fire.status = 'pending' AND fire.attempts_count = 0
    )
