-- ledger_closes_close: one close of the ledger
SELECT
    close_number, close_id, kind, start_day, end_day, closed_at, known_at, currency, amount_units, bill_units, entries_count,
    method, parameters, code_version, rates_version, findings, previous_hash, entries_hash, close_hash
FROM ledger_closes
WHERE $as_of::TIMESTAMP IS NULL OR closed_at <= $as_of::TIMESTAMP
ORDER BY close_number
