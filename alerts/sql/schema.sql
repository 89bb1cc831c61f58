-- The state of the evaluator: SQLite, WAL, synchronous=FULL. Times are naive UTC in ISO 8601, so that they sort.

-- one fact about the whole state
CREATE TABLE IF NOT EXISTS facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- one rule: what the machine remembers of it beside its alerts
CREATE TABLE IF NOT EXISTS rules (
    uid TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

-- one alert: a rule with one set of labels; `document` is the machine's, `view` is for people
CREATE TABLE IF NOT EXISTS instances (
    rule_uid TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    document TEXT NOT NULL,
    view TEXT NOT NULL,
    PRIMARY KEY (rule_uid, fingerprint)
) STRICT;

-- one change of state of one alert
CREATE TABLE IF NOT EXISTS transitions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    rule_uid TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    reason TEXT NOT NULL,
    episode INTEGER NOT NULL,
    value REAL,
    threshold REAL
) STRICT;
CREATE INDEX IF NOT EXISTS transitions_by_alert ON transitions (fingerprint, seq);

-- one receiver and one alert: what it was told last
CREATE TABLE IF NOT EXISTS told (
    receiver TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (receiver, fingerprint)
) STRICT;

-- one message for one receiver; status is pending, delivered, dead or dropped
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    receiver TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    episode TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    next_at TEXT NOT NULL,
    attempts_count INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'pending',
    finished_at TEXT,
    last_error TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_pending ON outbox (receiver, fingerprint, seq) WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS outbox_by_alert ON outbox (fingerprint, seq);

-- one silence: alerts that all matchers match are not sent while it lasts
CREATE TABLE IF NOT EXISTS silences (
    id TEXT PRIMARY KEY,
    starts_at TEXT NOT NULL,
    ends_at TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;

-- one receiver that is sent the whole set of alerts each time: the last time that it took it
CREATE TABLE IF NOT EXISTS syncs (
    receiver TEXT PRIMARY KEY,
    tried_at TEXT NOT NULL,
    accepted_at TEXT,
    alerts_count INTEGER NOT NULL,
    last_error TEXT
) STRICT;
