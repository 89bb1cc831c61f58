-- Rows of an answer of cost_entries_day that can't be right.
SELECT *
FROM answer
WHERE amount_units IS NULL
    OR requests_count < 0
    OR bucket NOT IN ('request', 'warm_idle', 'wasted', 'unattributed')
    OR (bucket = 'request' AND team IS NULL)
    OR (bucket IN ('warm_idle', 'unattributed') AND team IS NOT NULL)
    OR (bucket = 'warm_idle' AND requests_count > 0)
