-- The shelf: small values for a while. `size` is told apart, so that to sum it no value is read.
CREATE TABLE torpor_shelf (
    key BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    revision INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    size INTEGER NOT NULL
);
