-- Rows of an answer of slo_events_band that can't be right.
SELECT *
FROM answer
WHERE bad_count < 0 OR bad_count > events_count OR band NOT BETWEEN 0 AND 7
