-- ledger_entries, ledger_closes, ledger_days: an append-only ledger whose every row is chained to the one before by its hash
-- Nothing ever wrote to the two older tables of these names; they are made anew.
DROP TABLE ledger_entries;
DROP TABLE ledger_closes;

-- ledger_closes: one close of one range of days, or one correction of it; the row is written last and makes its entries count
CREATE TABLE ledger_closes (
    close_number INTEGER NOT NULL,
    close_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    start_day DATE NOT NULL,
    end_day DATE NOT NULL,
    closed_at TIMESTAMP NOT NULL,
    known_at TIMESTAMP NOT NULL,
    currency VARCHAR NOT NULL,
    amount_units BIGINT NOT NULL,
    bill_units BIGINT NOT NULL,
    entries_count BIGINT NOT NULL,
    method VARCHAR NOT NULL,
    parameters VARCHAR NOT NULL,
    code_version VARCHAR NOT NULL,
    rates_version VARCHAR NOT NULL,
    findings VARCHAR NOT NULL,
    previous_hash VARCHAR NOT NULL,
    entries_hash VARCHAR NOT NULL,
    close_hash VARCHAR NOT NULL,
    PRIMARY KEY (close_number)
);
COMMENT ON COLUMN ledger_closes.close_number IS 'Its place in the ledger, from 1 on. Unit: closes. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.close_id IS 'What its entries carry. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.kind IS 'days (closed for now), month (frozen) or correction (of a frozen month). Source: the ledger.';
COMMENT ON COLUMN ledger_closes.start_day IS 'First day of the range. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.end_day IS 'Day after the last of the range. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.closed_at IS 'When it was written. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.known_at IS 'Rates, invoices, inventory and requests known until then are in it. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.currency IS 'ISO 4217 code. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.amount_units IS 'Sum of its own entries. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.bill_units IS 'The bill of the range as it was known; equals the sum of all entries of these days up to this close. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.entries_count IS 'How many entries it wrote. Unit: entries. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.method IS 'How requests were weighed. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.parameters IS 'The parameters of the method, as JSON. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.code_version IS 'Version of fleetmeter. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.rates_version IS 'SHA-256 of the rates, invoice lines and inventory rows that applied. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.findings IS 'What was known to be missing and accepted, as a JSON list. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.previous_hash IS 'close_hash of the close before; of the first, 64 zeros. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.entries_hash IS 'entry_hash of its last entry; previous_hash where it has none. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.close_hash IS 'SHA-256 of the row, which chains it to the one before (docs/cost.md). Source: the ledger.';
COMMENT ON TABLE ledger_closes IS 'one close of one range of days, or one correction of it; the row is written last and makes its entries count';

-- ledger_entries: one amount that one close put into one bucket, or by which it corrected an earlier entry
CREATE TABLE ledger_entries (
    entry_id VARCHAR NOT NULL,
    close_id VARCHAR NOT NULL,
    entry_number BIGINT NOT NULL,
    corrects VARCHAR,
    day DATE NOT NULL,
    replica VARCHAR,
    model VARCHAR,
    adapter VARCHAR,
    bucket VARCHAR NOT NULL,
    team VARCHAR,
    app VARCHAR,
    api_key_hash VARCHAR,
    method VARCHAR,
    currency VARCHAR NOT NULL,
    amount_units BIGINT NOT NULL,
    requests_count BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    input_units BIGINT NOT NULL,
    cached_units BIGINT NOT NULL,
    output_units BIGINT NOT NULL,
    saved_units BIGINT NOT NULL,
    entry_hash VARCHAR NOT NULL,
    PRIMARY KEY (close_id, entry_number)
);
COMMENT ON COLUMN ledger_entries.entry_id IS 'Its name: number of the close, dash, number of the entry. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.close_id IS 'The close that wrote it; entries of a close that is not in ledger_closes do not count. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.entry_number IS 'Its place within the close, from 1 on. Unit: entries. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.corrects IS 'The entry whose amount it corrects; null is an amount of its own. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.day IS 'The day charged. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.replica IS 'The replica. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.model IS 'The model. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.adapter IS 'The adapter, if any. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.bucket IS 'request, warm_idle, cold_start, wasted, fault or unattributed. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.team IS 'The team charged; null where no team is. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.app IS 'The application of that team. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.api_key_hash IS 'Salted hash of the API key. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.method IS 'How the amount was found, e.g. tokens; null where no request is charged. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.currency IS 'ISO 4217 code. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.amount_units IS 'The amount; a correction may be negative. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.requests_count IS 'Requests; a correction holds the difference. Unit: requests. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.input_tokens IS 'Prompt tokens, cached ones included. Unit: tokens. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.cached_tokens IS 'Prompt tokens read from the prefix cache. Unit: tokens. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.output_tokens IS 'Generated tokens. Unit: tokens. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.input_units IS 'The part of the amount that is computed prompt tokens. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.cached_units IS 'The part of the amount that is cached prompt tokens. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.output_units IS 'The part of the amount that is generated tokens. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.saved_units IS 'What the cached tokens would have cost beyond that; no part of the amount. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.entry_hash IS 'SHA-256 of the row and of the hash before it (docs/cost.md). Source: the ledger.';
COMMENT ON TABLE ledger_entries IS 'one amount that one close put into one bucket, or by which it corrected an earlier entry';

-- ledger_days: one day as one close left it, to tell later what has changed since
CREATE TABLE ledger_days (
    close_id VARCHAR NOT NULL,
    day DATE NOT NULL,
    known_at TIMESTAMP NOT NULL,
    bill_units BIGINT NOT NULL,
    bill_hash VARCHAR NOT NULL,
    PRIMARY KEY (close_id, day)
);
COMMENT ON COLUMN ledger_days.close_id IS 'The close. Source: the ledger.';
COMMENT ON COLUMN ledger_days.day IS 'The day. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_days.known_at IS 'What was known until then is in it. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_days.bill_units IS 'The bill of the day as it was known. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_days.bill_hash IS 'SHA-256 of the bill of each replica and hour of the day. Source: the ledger.';
COMMENT ON TABLE ledger_days IS 'one day as one close left it, to tell later what has changed since';
