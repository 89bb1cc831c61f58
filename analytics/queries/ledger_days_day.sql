-- ledger_days_day: one day of one range as its latest close left it; with the close that froze its month, if one did
WITH closed AS (
    SELECT ledger_days.*, ledger_closes.close_number, ledger_closes.closed_at
    FROM ledger_days
    INNER JOIN ledger_closes ON ledger_days.close_id = ledger_closes.close_id
    WHERE ledger_days.day >= $start::DATE
        AND ledger_days.day < $end::DATE
        AND ($as_of::TIMESTAMP IS NULL OR ledger_closes.closed_at <= $as_of::TIMESTAMP)
    QUALIFY row_number() OVER (PARTITION BY ledger_days.day ORDER BY ledger_closes.close_number DESC) = 1
)
SELECT
    closed.day,
    closed.close_number,
    closed.closed_at,
    closed.known_at,
    closed.bill_units,
    closed.bill_hash,
    min(frozen.close_number) AS frozen_by
FROM closed
LEFT JOIN ledger_closes AS frozen
    ON frozen.kind = 'month'
        AND frozen.start_day <= closed.day
        AND frozen.end_day > closed.day
        AND ($as_of::TIMESTAMP IS NULL OR frozen.closed_at <= $as_of::TIMESTAMP)
GROUP BY closed.day, closed.close_number, closed.closed_at, closed.known_at, closed.bill_units, closed.bill_hash
ORDER BY closed.day
