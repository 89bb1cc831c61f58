-- requests_late_day: one of the given days that requests touch which were received after the time given for it
-- $days, $since: parallel lists; $oldest: the least of $since. A request touches each day from its arrival to its end; at most
-- 31 of them are looked at. $known_at: only requests that were received by then; null is all.
WITH asked AS (
    SELECT unnest($days::DATE[]) AS day, unnest($since::TIMESTAMP[]) AS since
),
arrived AS (
    SELECT
        started_at::DATE AS first_day,
        least(greatest(coalesce(ended_at, started_at), started_at), started_at + INTERVAL 31 DAY)::DATE AS last_day,
        received_at
    FROM requests
    WHERE received_at > $oldest::TIMESTAMP
        AND ($known_at::TIMESTAMP IS NULL OR received_at <= $known_at::TIMESTAMP)
),
touched AS (
    SELECT first_day AS day, received_at
    FROM arrived
    WHERE first_day = last_day
    UNION ALL
    SELECT unnest(generate_series(first_day, last_day, INTERVAL 1 DAY))::DATE, received_at
    FROM arrived
    WHERE first_day < last_day
)
SELECT asked.day, count(*) AS requests_count
FROM asked
INNER JOIN touched ON asked.day = touched.day AND touched.received_at > asked.since
GROUP BY asked.day
ORDER BY asked.day
