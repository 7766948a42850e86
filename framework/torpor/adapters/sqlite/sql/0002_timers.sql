-- The messages that wait for their time, under the name by which they can be replaced and cancelled.
CREATE TABLE torpor_timer (
    name TEXT NOT NULL PRIMARY KEY,
    due_at REAL NOT NULL,
    key TEXT,
    topic TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    headers TEXT NOT NULL,
    payload BLOB NOT NULL
) WITHOUT ROWID;

CREATE INDEX torpor_timer_due ON torpor_timer (due_at, name);
