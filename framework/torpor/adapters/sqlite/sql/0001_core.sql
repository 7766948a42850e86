-- Torpor's own tables on SQLite. Applied once by `migrate`; a change is a new file.

-- Which migrations were applied, and the checksum of what was applied.
CREATE TABLE torpor_migration (
    name TEXT NOT NULL PRIMARY KEY,
    checksum TEXT NOT NULL,
    at REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The ids that each binding has handled. No index on `at`: it would cost every message a third more, and only `trim` reads it.
CREATE TABLE torpor_inbox (
    binding TEXT NOT NULL,
    id TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (binding, id)
) WITHOUT ROWID;

-- The messages to publish. AUTOINCREMENT, so that a position is never given twice, even when all rows were trimmed.
CREATE TABLE torpor_outbox (
    pos INTEGER PRIMARY KEY AUTOINCREMENT,
    shard INTEGER NOT NULL DEFAULT 0,
    key TEXT,
    topic TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    headers TEXT NOT NULL,
    payload BLOB NOT NULL,
    at REAL NOT NULL
);

-- How far the relay has published each shard.
CREATE TABLE torpor_cursor (
    shard INTEGER NOT NULL PRIMARY KEY,
    pos INTEGER NOT NULL
);

-- The messages set aside. `due_at` is NULL while an operator holds the row, and 0 while it waits behind its key.
CREATE TABLE torpor_parked (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    binding TEXT NOT NULL,
    key TEXT,
    topic TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    headers TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    at REAL NOT NULL,
    due_at REAL
);

CREATE INDEX torpor_parked_key ON torpor_parked (binding, key, number);

CREATE INDEX torpor_parked_unkeyed ON torpor_parked (due_at) WHERE key IS NULL;

-- Who holds a duty. A row stays when it is released, so that its epoch only ever rises.
CREATE TABLE torpor_lease (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT,
    epoch INTEGER NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
