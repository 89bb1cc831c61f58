-- budgets: also of an application or of a model, not of a team alone; and since when each is known
ALTER TABLE budgets ALTER COLUMN team DROP NOT NULL;
ALTER TABLE budgets ADD COLUMN app VARCHAR;
ALTER TABLE budgets ADD COLUMN model VARCHAR;
COMMENT ON COLUMN budgets.team IS 'The team; null is any. Source: the budget file.';
COMMENT ON COLUMN budgets.app IS 'The application; null is any. Source: the budget file.';
COMMENT ON COLUMN budgets.model IS 'The model; null is any. Source: the budget file.';
