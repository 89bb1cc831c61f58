-- ledger_entries_entry: one entry of one close, in the order in which they were written
SELECT
    ledger_closes.close_number,
    ledger_entries.entry_id,
    ledger_entries.close_id,
    ledger_entries.entry_number,
    ledger_entries.corrects,
    ledger_entries.day,
    ledger_entries.replica,
    ledger_entries.model,
    ledger_entries.adapter,
    ledger_entries.bucket,
    ledger_entries.team,
    ledger_entries.app,
    ledger_entries.api_key_hash,
    ledger_entries.method,
    ledger_entries.currency,
    ledger_entries.amount_units,
    ledger_entries.requests_count,
    ledger_entries.input_tokens,
    ledger_entries.cached_tokens,
    ledger_entries.output_tokens,
    ledger_entries.input_units,
    ledger_entries.cached_units,
    ledger_entries.output_units,
    ledger_entries.saved_units,
    ledger_entries.entry_hash
FROM ledger_entries
INNER JOIN ledger_closes ON ledger_entries.close_id = ledger_closes.close_id
WHERE ledger_closes.close_number = $close_number::INTEGER
ORDER BY ledger_entries.entry_number
