-- replicas: who reserved a server, and pays for what of it nobody uses
ALTER TABLE replicas ADD COLUMN owner VARCHAR;
COMMENT ON COLUMN replicas.owner IS 'The team that reserved it, which pays for its idle time where idle time is the owner''s; null is nobody. Source: inventory.';
