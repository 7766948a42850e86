-- What requests with a key were answered with. A place is a route, or a route and a caller; a long one is a digest of it.
CREATE TABLE torpor_answer (
    place TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (place, key)
);

CREATE INDEX ON torpor_answer (until);

-- Takes a key until the transaction ends: gives no row while another has it, and else one, whose columns are NULL when
-- nothing is kept. The lock is tried, never waited for. The look at the table is a statement of its own behind the lock,
-- so that it sees what the one before has committed. Two keys of one digest would be told to wait for each other; that
-- does no harm.
CREATE FUNCTION torpor_take(wanted TEXT, called TEXT, digest INTEGER, moment DOUBLE PRECISION)
RETURNS TABLE (fingerprint TEXT, status INTEGER, headers TEXT, body BYTEA) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock('torpor_answer'::regclass::oid::bigint::bit(32)::integer, digest) THEN
        RETURN;
    END IF;
    DELETE FROM torpor_answer AS old WHERE old.place = wanted AND old.key = called AND old.until <= moment;
    RETURN QUERY SELECT kept.fingerprint, kept.status, kept.headers, kept.body
    FROM (SELECT) AS one LEFT JOIN torpor_answer AS kept ON kept.place = wanted AND kept.key = called;
END
$$;
