-- events_late_fleet: how many events that tell of an outage of one range of time were received after one time
-- $start, $end: range of the events. $since: they were received after it. $known_at: and by then; null is all.
SELECT count(*) AS events_count
FROM events
WHERE kind IN ('xid', 'restart', 'ready')
    AND replica IS NOT NULL
    AND occurred_at >= $start::TIMESTAMP
    AND occurred_at < $end::TIMESTAMP
    AND received_at > $since::TIMESTAMP
    AND ($known_at::TIMESTAMP IS NULL OR received_at <= $known_at::TIMESTAMP)
