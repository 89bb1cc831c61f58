-- rate_cards: one price of one GPU type in one interval of time
CREATE TABLE rate_cards (
    rate_id VARCHAR NOT NULL,
    gpu_type VARCHAR NOT NULL,
    provider VARCHAR,
    region VARCHAR,
    purchase_type VARCHAR,
    currency VARCHAR NOT NULL,
    gpu_hour_units BIGINT NOT NULL,
    valid_from TIMESTAMP NOT NULL,
    valid_to TIMESTAMP,
    origin VARCHAR,
    PRIMARY KEY (rate_id)
);
COMMENT ON COLUMN rate_cards.rate_id IS 'Stable id of the rate. Source: the rate book.';
COMMENT ON COLUMN rate_cards.gpu_type IS 'The GPU model. Source: the rate book.';
COMMENT ON COLUMN rate_cards.provider IS 'Who bills; null fits any. Source: the rate book.';
COMMENT ON COLUMN rate_cards.region IS 'The region; null fits any. Source: the rate book.';
COMMENT ON COLUMN rate_cards.purchase_type IS 'on_demand, reserved …; null fits any. Source: the rate book.';
COMMENT ON COLUMN rate_cards.currency IS 'ISO 4217 code. Source: the rate book.';
COMMENT ON COLUMN rate_cards.gpu_hour_units IS 'Price of one GPU for one hour. Unit: 1e-9 of the currency. Source: the rate book.';
COMMENT ON COLUMN rate_cards.valid_from IS 'From when the price holds. Unit: UTC. Source: the rate book.';
COMMENT ON COLUMN rate_cards.valid_to IS 'Until when, exclusive; null is open. Unit: UTC. Source: the rate book.';
COMMENT ON COLUMN rate_cards.origin IS 'Where the price comes from. Source: the rate book.';
COMMENT ON TABLE rate_cards IS 'one price of one GPU type in one interval of time';

-- invoices: one line of a bill
CREATE TABLE invoices (
    invoice_id VARCHAR NOT NULL,
    period_from TIMESTAMP NOT NULL,
    period_to TIMESTAMP NOT NULL,
    replica VARCHAR,
    currency VARCHAR NOT NULL,
    amount_units BIGINT NOT NULL,
    origin VARCHAR,
    PRIMARY KEY (invoice_id)
);
COMMENT ON COLUMN invoices.invoice_id IS 'Id of the invoice line. Source: the bill.';
COMMENT ON COLUMN invoices.period_from IS 'Start of the charge. Unit: UTC. Source: the bill.';
COMMENT ON COLUMN invoices.period_to IS 'End of the charge, exclusive. Unit: UTC. Source: the bill.';
COMMENT ON COLUMN invoices.replica IS 'The replica billed; null is the whole fleet. Source: the bill.';
COMMENT ON COLUMN invoices.currency IS 'ISO 4217 code. Source: the bill.';
COMMENT ON COLUMN invoices.amount_units IS 'The amount. Unit: 1e-9 of the currency. Source: the bill.';
COMMENT ON COLUMN invoices.origin IS 'The file it was read from. Source: the import.';
COMMENT ON TABLE invoices IS 'one line of a bill';

-- ledger_entries: one amount that one close put into one bucket
CREATE TABLE ledger_entries (
    close_id VARCHAR NOT NULL,
    entry_id VARCHAR NOT NULL,
    day DATE NOT NULL,
    bucket VARCHAR NOT NULL,
    team VARCHAR,
    model VARCHAR,
    replica VARCHAR,
    currency VARCHAR NOT NULL,
    amount_units BIGINT NOT NULL,
    method VARCHAR NOT NULL,
    PRIMARY KEY (close_id, entry_id)
);
COMMENT ON COLUMN ledger_entries.close_id IS 'The close that wrote it. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.entry_id IS 'Stable id of the entry within the close. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.day IS 'The day charged. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.bucket IS 'request, warm_idle, cold_start, wasted, fault or unattributed. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.team IS 'The team charged; null outside bucket request. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.model IS 'The model. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.replica IS 'The replica. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.currency IS 'ISO 4217 code. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.amount_units IS 'The amount. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_entries.method IS 'How requests were weighed, e.g. tokens. Source: the ledger.';
COMMENT ON TABLE ledger_entries IS 'one amount that one close put into one bucket';

-- ledger_closes: one close of one month
CREATE TABLE ledger_closes (
    close_id VARCHAR NOT NULL,
    month DATE NOT NULL,
    closed_at TIMESTAMP NOT NULL,
    amount_units BIGINT NOT NULL,
    currency VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    code_version VARCHAR NOT NULL,
    PRIMARY KEY (close_id)
);
COMMENT ON COLUMN ledger_closes.close_id IS 'Id of the close. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.month IS 'First day of the month closed. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.closed_at IS 'When. Unit: UTC. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.amount_units IS 'Sum of the entries, and of the bill. Unit: 1e-9 of the currency. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.currency IS 'ISO 4217 code. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.method IS 'Method and its parameters. Source: the ledger.';
COMMENT ON COLUMN ledger_closes.code_version IS 'Version of fleetmeter. Source: the ledger.';
COMMENT ON TABLE ledger_closes IS 'one close of one month';

-- budgets: the budget of one team for one month
CREATE TABLE budgets (
    budget_id VARCHAR NOT NULL,
    team VARCHAR NOT NULL,
    month DATE NOT NULL,
    currency VARCHAR NOT NULL,
    amount_units BIGINT NOT NULL,
    PRIMARY KEY (budget_id)
);
COMMENT ON COLUMN budgets.budget_id IS 'Stable id. Source: the budget file.';
COMMENT ON COLUMN budgets.team IS 'The team. Source: the budget file.';
COMMENT ON COLUMN budgets.month IS 'First day of the month. Unit: UTC. Source: the budget file.';
COMMENT ON COLUMN budgets.currency IS 'ISO 4217 code. Source: the budget file.';
COMMENT ON COLUMN budgets.amount_units IS 'The budget. Unit: 1e-9 of the currency. Source: the budget file.';
COMMENT ON TABLE budgets IS 'the budget of one team for one month';
