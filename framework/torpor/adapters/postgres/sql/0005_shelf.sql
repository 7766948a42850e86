-- The shelf: small values for a while. Each can be made again, so the table is not logged: nothing waits for the disk,
-- and no replica of the server is sent it. After a crash it is empty. A long key is a digest of it. There is no index on
-- the times, so that a row which is put again and again stays on its page.
CREATE UNLOGGED TABLE torpor_shelf (
    key BYTEA NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL,
    revision BIGINT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    size INTEGER NOT NULL
) WITH (fillfactor = 70);
