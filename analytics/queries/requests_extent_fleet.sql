-- requests_extent_fleet: one row: the first and the last arrival; nulls where there is no request
SELECT min(started_at) AS first_started_at, max(started_at) AS last_started_at
FROM requests
