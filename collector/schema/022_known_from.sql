-- rate_cards, invoices, replicas: since when each row is known, so that every earlier view of the money can be reproduced
-- Rows are never changed: a restatement is a later row. Of the rows of one thing (a rate: the same GPU, provider, region,
-- purchase and start; an invoice line: the same first id; a replica: the same start) the one known last holds.
ALTER TABLE rate_cards ADD COLUMN known_from TIMESTAMP;
ALTER TABLE rate_cards ADD COLUMN withdrawn BOOLEAN;
ALTER TABLE rate_cards ADD COLUMN terms VARCHAR;
COMMENT ON COLUMN rate_cards.known_from IS 'Since when the row is known; null is always. Unit: UTC. Source: the landing, or the rate book.';
COMMENT ON COLUMN rate_cards.withdrawn IS 'Whether this row takes an earlier one back, so that there is no such rate. Source: the rate book.';
COMMENT ON COLUMN rate_cards.terms IS 'What an amortised price was computed from, as JSON of decimals. Source: the rate book.';
ALTER TABLE invoices ADD COLUMN known_from TIMESTAMP;
ALTER TABLE invoices ADD COLUMN withdrawn BOOLEAN;
ALTER TABLE invoices ADD COLUMN restates VARCHAR;
ALTER TABLE invoices ADD COLUMN charge_category VARCHAR;
ALTER TABLE invoices ADD COLUMN resource_id VARCHAR;
ALTER TABLE invoices ADD COLUMN sku VARCHAR;
ALTER TABLE invoices ADD COLUMN description VARCHAR;
COMMENT ON COLUMN invoices.known_from IS 'Since when the row is known; null is always. Unit: UTC. Source: the landing, or the bill.';
COMMENT ON COLUMN invoices.withdrawn IS 'Whether this row takes an earlier line back. Source: the bill.';
COMMENT ON COLUMN invoices.restates IS 'The invoice_id of the line that this row replaces; null is a line of its own. Source: the bill.';
COMMENT ON COLUMN invoices.charge_category IS 'usage, purchase, tax, credit or adjustment; of these usage and purchase stand in for a rate. Null: usage, or credit where the amount is negative. Source: the bill.';
COMMENT ON COLUMN invoices.resource_id IS 'The resource that the provider billed. Source: the bill (FOCUS ResourceId).';
COMMENT ON COLUMN invoices.sku IS 'What was bought. Source: the bill (FOCUS SkuId, SkuMeter).';
COMMENT ON COLUMN invoices.description IS 'The charge in words. Source: the bill (FOCUS ChargeDescription).';
ALTER TABLE replicas ADD COLUMN known_from TIMESTAMP;
COMMENT ON COLUMN replicas.known_from IS 'Since when the row is known; null is always. Unit: UTC. Source: the landing.';

-- replica_restatements: one later word about one interval of one replica, which replaces the inventory's
CREATE TABLE replica_restatements (
    restatement_id VARCHAR NOT NULL,
    replica VARCHAR NOT NULL,
    valid_from TIMESTAMP NOT NULL,
    valid_to TIMESTAMP,
    model VARCHAR,
    region VARCHAR,
    provider VARCHAR,
    purchase_type VARCHAR,
    gpu_type VARCHAR,
    gpu_count INTEGER,
    withdrawn BOOLEAN,
    known_from TIMESTAMP,
    origin VARCHAR,
    PRIMARY KEY (restatement_id)
);
COMMENT ON COLUMN replica_restatements.restatement_id IS 'Stable id. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.replica IS 'The replica. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.valid_from IS 'Start of the interval; one with the same start is replaced. Unit: UTC. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.valid_to IS 'End of the interval, exclusive; null is open. Unit: UTC. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.model IS 'The model served. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.region IS 'The region. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.provider IS 'Who bills. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.purchase_type IS 'on_demand, reserved, spot, committed or owned. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.gpu_type IS 'The GPU model. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.gpu_count IS 'GPUs of the replica. Unit: GPUs. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.withdrawn IS 'Whether the interval never was. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.known_from IS 'Since when the row is known; null is always. Unit: UTC. Source: the landing, or the inventory file.';
COMMENT ON COLUMN replica_restatements.origin IS 'The file it was read from. Source: the import.';
COMMENT ON TABLE replica_restatements IS 'one later word about one interval of one replica, which replaces the inventory''s';

-- token_prices: one list price per token of one model at one external API, as of one day
CREATE TABLE token_prices (
    price_id VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    currency VARCHAR NOT NULL,
    input_units BIGINT NOT NULL,
    output_units BIGINT NOT NULL,
    cache_read_units BIGINT,
    cache_write_units BIGINT,
    valid_from TIMESTAMP NOT NULL,
    valid_to TIMESTAMP,
    known_from TIMESTAMP,
    withdrawn BOOLEAN,
    origin VARCHAR NOT NULL,
    PRIMARY KEY (price_id)
);
COMMENT ON COLUMN token_prices.price_id IS 'Stable id. Source: the price book.';
COMMENT ON COLUMN token_prices.provider IS 'Who sells the API. Source: the price book.';
COMMENT ON COLUMN token_prices.model IS 'The model as the provider names it. Source: the price book.';
COMMENT ON COLUMN token_prices.currency IS 'ISO 4217 code. Source: the price book.';
COMMENT ON COLUMN token_prices.input_units IS 'Price of a million prompt tokens. Unit: 1e-9 of the currency. Source: the price book.';
COMMENT ON COLUMN token_prices.output_units IS 'Price of a million generated tokens. Unit: 1e-9 of the currency. Source: the price book.';
COMMENT ON COLUMN token_prices.cache_read_units IS 'Price of a million prompt tokens read from the cache; null: none is listed. Unit: 1e-9 of the currency. Source: the price book.';
COMMENT ON COLUMN token_prices.cache_write_units IS 'Price of a million prompt tokens written to the cache; null: none is listed. Unit: 1e-9 of the currency. Source: the price book.';
COMMENT ON COLUMN token_prices.valid_from IS 'From when the price was seen to hold. Unit: UTC. Source: the price book.';
COMMENT ON COLUMN token_prices.valid_to IS 'Until when, exclusive; null is open. Unit: UTC. Source: the price book.';
COMMENT ON COLUMN token_prices.known_from IS 'Since when the row is known; null is always. Unit: UTC. Source: the landing, or the price book.';
COMMENT ON COLUMN token_prices.withdrawn IS 'Whether this row takes an earlier one back. Source: the price book.';
COMMENT ON COLUMN token_prices.origin IS 'Where the price was read, and in what list. Source: the price book.';
COMMENT ON TABLE token_prices IS 'one list price per token of one model at one external API, as of one day';
