-- ledger_standing_key: what the entries of one range of days add up to at one time, by everything that tells amounts apart
-- entry_id: the first entry of that key, which later ones correct. $end: day after the last. Without $as_of: all entries.
SELECT
    day,
    replica,
    model,
    adapter,
    bucket,
    team,
    app,
    api_key_hash,
    method,
    currency,
    sum(amount_units)::BIGINT AS amount_units,
    sum(requests_count)::BIGINT AS requests_count,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cached_tokens)::BIGINT AS cached_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(input_units)::BIGINT AS input_units,
    sum(cached_units)::BIGINT AS cached_units,
    sum(output_units)::BIGINT AS output_units,
    sum(saved_units)::BIGINT AS saved_units,
    arg_min(entry_id, close_number::BIGINT * 1000000000000 + entry_number) AS entry_id
FROM (
    SELECT ledger_entries.* EXCLUDE (close_id), ledger_closes.close_number
    FROM ledger_entries
    INNER JOIN ledger_closes ON ledger_entries.close_id = ledger_closes.close_id
    WHERE ledger_entries.day >= $start::DATE
        AND ledger_entries.day < $end::DATE
        AND ($as_of::TIMESTAMP IS NULL OR ledger_closes.closed_at <= $as_of::TIMESTAMP)
)
GROUP BY day, replica, model, adapter, bucket, team, app, api_key_hash, method, currency
ORDER BY ALL
