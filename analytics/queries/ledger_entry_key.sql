-- ledger_entry_key: one entry of the ledger, with what the entries of its key added up to before its close
WITH entry AS (
    SELECT ledger_entries.*, ledger_closes.close_number
    FROM ledger_entries
    INNER JOIN ledger_closes ON ledger_entries.close_id = ledger_closes.close_id
    WHERE ledger_entries.entry_id = $entry_id
),
before AS (
    SELECT coalesce(sum(earlier.amount_units), 0)::BIGINT AS before_units, count(earlier.entry_id) AS before_count
    FROM entry
    LEFT JOIN (
        SELECT ledger_entries.*, ledger_closes.close_number
        FROM ledger_entries
        INNER JOIN ledger_closes ON ledger_entries.close_id = ledger_closes.close_id
    ) AS earlier
        ON earlier.close_number < entry.close_number
            AND earlier.day = entry.day
            AND earlier.bucket = entry.bucket
            AND earlier.currency = entry.currency
            AND earlier.replica IS NOT DISTINCT FROM entry.replica
            AND earlier.model IS NOT DISTINCT FROM entry.model
            AND earlier.adapter IS NOT DISTINCT FROM entry.adapter
            AND earlier.team IS NOT DISTINCT FROM entry.team
            AND earlier.app IS NOT DISTINCT FROM entry.app
            AND earlier.api_key_hash IS NOT DISTINCT FROM entry.api_key_hash
            AND earlier.method IS NOT DISTINCT FROM entry.method
)
SELECT
    entry.entry_id, entry.close_number, entry.corrects, entry.day, entry.replica, entry.model, entry.adapter, entry.bucket,
    entry.team, entry.app, entry.api_key_hash, entry.method, entry.currency, entry.amount_units, entry.requests_count,
    entry.entry_hash, before.before_units, before.before_count
FROM entry
CROSS JOIN before
