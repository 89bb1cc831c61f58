-- replaces the rollups of one hour by what was computed of it, and takes its mark away
DELETE FROM settled_request_hours WHERE hour_at = $hour;
DELETE FROM settled_request_sketches WHERE hour_at = $hour;
DELETE FROM settled_request_arrivals WHERE hour_at = $hour;
INSERT INTO settled_request_hours SELECT * FROM computed_hours;
INSERT INTO settled_request_sketches SELECT * FROM computed_sketches;
INSERT INTO settled_request_arrivals SELECT * FROM computed_arrivals;
DELETE FROM stale_hours WHERE hour_at = $hour
