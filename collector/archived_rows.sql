-- places in late_rows whose key is in these archived files; the names in braces are filled in by keyed_inserts.py
SELECT DISTINCT late.place
FROM late_rows AS late
INNER JOIN ({archived}) AS there ON {same_key}
WHERE there."{clock}" BETWEEN $first AND $last
