-- One lease for all duties.
UPDATE torpor_lease SET name = 'keeper' WHERE name = 'relay';

DELETE FROM torpor_lease WHERE name = 'timers';

-- How far the cursors had come when a replay moved them back, and the only topic that is published again up to there:
-- all of them when it is NULL.
ALTER TABLE torpor_cursor ADD COLUMN reached BIGINT NOT NULL DEFAULT 0;

ALTER TABLE torpor_cursor ADD COLUMN topic TEXT;

-- The last position that each shard had when the turn was given to the part that has it now. A relay whose cursors have
-- come that far need read that part alone.
ALTER TABLE torpor_cursor ADD COLUMN turned BIGINT NOT NULL DEFAULT 0;

-- The outbox log is four parts that take turns, so that the cleanup empties a part whole: no rows are deleted, and no
-- dead ones are left. The turn is given under the locks of all shards, so that no row comes late into a part. The table
-- that there was becomes the first part, with its rows. (A new name must not be qualified, so it is put together.)
DO $$ BEGIN EXECUTE 'ALTER TABLE torpor_outbox RENAME TO torpor' || '_outbox_0'; END $$;

ALTER TABLE torpor_outbox_0 ADD COLUMN part SMALLINT NOT NULL DEFAULT 0;

CREATE TABLE torpor_outbox (LIKE torpor_outbox_0 INCLUDING DEFAULTS) PARTITION BY LIST (part);

CREATE TABLE torpor_outbox_1 (LIKE torpor_outbox_0 INCLUDING ALL);

CREATE TABLE torpor_outbox_2 (LIKE torpor_outbox_0 INCLUDING ALL);

CREATE TABLE torpor_outbox_3 (LIKE torpor_outbox_0 INCLUDING ALL);

ALTER TABLE torpor_outbox ATTACH PARTITION torpor_outbox_0 FOR VALUES IN (0);

ALTER TABLE torpor_outbox ATTACH PARTITION torpor_outbox_1 FOR VALUES IN (1);

ALTER TABLE torpor_outbox ATTACH PARTITION torpor_outbox_2 FOR VALUES IN (2);

ALTER TABLE torpor_outbox ATTACH PARTITION torpor_outbox_3 FOR VALUES IN (3);

-- Whose turn it is: the part that rows are appended to.
CREATE TABLE torpor_turn (
    part SMALLINT NOT NULL
) WITH (fillfactor = 50);

INSERT INTO torpor_turn (part) VALUES (0);

-- Takes the locks of all shards.
CREATE FUNCTION torpor_lock_shards() RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    wanted INTEGER;
BEGIN
    FOR wanted IN SELECT torpor_cursor.shard FROM torpor_cursor ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock('torpor_outbox_0'::regclass::oid::bigint::bit(32)::integer, wanted);
    END LOOP;
END
$$;

-- The part that has the turn. To be asked behind a shard's lock: the turn then stays. A stricter isolation would see an
-- old one, and has to begin anew instead.
CREATE FUNCTION torpor_part() RETURNS SMALLINT LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RETURN (SELECT part FROM torpor_turn);
    END IF;
    RETURN (SELECT held.part FROM (SELECT part FROM torpor_turn FOR SHARE) AS held);
END
$$;

-- As before, but for the part. The lock is still that of the old table's oid, so that old code and new wait for each
-- other.
CREATE OR REPLACE FUNCTION torpor_append(
    shards INTEGER [], keys TEXT [], topics TEXT [], types TEXT [], ids TEXT [], attributes TEXT [], payloads BYTEA [],
    moment DOUBLE PRECISION
) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    wanted INTEGER;
BEGIN
    FOR wanted IN SELECT DISTINCT one FROM unnest(shards) AS one ORDER BY one LOOP
        PERFORM pg_advisory_xact_lock('torpor_outbox_0'::regclass::oid::bigint::bit(32)::integer, wanted);
    END LOOP;
    INSERT INTO torpor_outbox (shard, key, topic, type, id, headers, payload, at, part)
    SELECT
        one.shard, one.key, one.topic, one.type, one.id, one.headers, one.payload, moment,
        (SELECT torpor_part())
    FROM unnest(shards, keys, topics, types, ids, attributes, payloads) WITH ORDINALITY
        AS one (shard, key, topic, type, id, headers, payload, nth)
    ORDER BY one.nth;
END
$$;

CREATE OR REPLACE FUNCTION torpor_append_one(
    shard INTEGER, key TEXT, topic TEXT, type TEXT, id TEXT, headers TEXT, payload BYTEA, moment DOUBLE PRECISION
) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock('torpor_outbox_0'::regclass::oid::bigint::bit(32)::integer, $1);
    INSERT INTO torpor_outbox (shard, key, topic, type, id, headers, payload, at, part)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, torpor_part());
END
$$;
