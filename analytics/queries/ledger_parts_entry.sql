-- ledger_parts_entry: one entry of one range of days, as far as it was written at one time; without $as_of: all
SELECT
    ledger_entries.entry_id, ledger_entries.day, ledger_entries.replica, ledger_entries.model, ledger_entries.adapter,
    ledger_entries.bucket, ledger_entries.team, ledger_entries.app, ledger_entries.api_key_hash, ledger_entries.method,
    ledger_entries.corrects, ledger_entries.amount_units, ledger_entries.requests_count
FROM ledger_entries
INNER JOIN ledger_closes ON ledger_entries.close_id = ledger_closes.close_id
WHERE ledger_entries.day >= $start::DATE
    AND ledger_entries.day < $end::DATE
    AND ($as_of::TIMESTAMP IS NULL OR ledger_closes.closed_at <= $as_of::TIMESTAMP)
ORDER BY ledger_closes.close_number, ledger_entries.entry_number
