-- replica_restatements: whose the replica is and what it deploys, as the inventory has it; events: since when each is known
ALTER TABLE replica_restatements ADD COLUMN deployment VARCHAR;
ALTER TABLE replica_restatements ADD COLUMN owner VARCHAR;
COMMENT ON COLUMN replica_restatements.deployment IS 'The deployment that it belongs to; null is as the inventory had it. Source: the inventory file.';
COMMENT ON COLUMN replica_restatements.owner IS 'The team that reserved it; null is nobody. Source: the inventory file.';
ALTER TABLE events ADD COLUMN received_at TIMESTAMP;
COMMENT ON COLUMN events.received_at IS 'When the collector received it; null is always. Unit: UTC, microseconds. Source: the collector.';
