-- The framework's own statements on PostgreSQL, each a block with its name. The adapter reads this file once, on first
-- use, and qualifies each name that begins with torpor_.

-- admit --
-- Enters ids into a binding's inbox; tells those that are new. It waits for a unit that is entering the same id.
INSERT INTO torpor_inbox (binding, id, at) SELECT $1, id, $3 FROM unnest($2::text []) AS id
ON CONFLICT DO NOTHING RETURNING id

-- prepare --
-- What the connections of units prepare by name. So it is planned once, although it is sent together with BEGIN and
-- COMMIT, with literals; a function of PL/pgSQL would cost a third more. `unit_enter` enters ids unless something of their
-- queues is parked; `unit_enter_one` does it for one id, at four fifths of the cost.
PREPARE unit_enter (TEXT, TEXT [], TEXT [], FLOAT8) AS INSERT INTO torpor_inbox (binding, id, at)
SELECT $1, one, $4 FROM unnest($2) AS one
WHERE NOT EXISTS (SELECT FROM torpor_parked WHERE binding = $1) OR NOT EXISTS (
    SELECT FROM unnest($3) AS wanted (queue) CROSS JOIN LATERAL (
        SELECT FROM torpor_parked WHERE binding = $1 AND torpor_parked.queue = wanted.queue LIMIT 1
    ) AS held
)
ON CONFLICT DO NOTHING;
PREPARE unit_enter_one (TEXT, TEXT, TEXT, FLOAT8) AS INSERT INTO torpor_inbox (binding, id, at) SELECT $1, $2, $4
WHERE NOT EXISTS (SELECT FROM torpor_parked WHERE binding = $1 AND queue = $3)
ON CONFLICT DO NOTHING;
PREPARE unit_lock (INTEGER) AS
SELECT pg_advisory_xact_lock('torpor_outbox_0'::regclass::oid::bigint::bit(32)::integer, $1);
PREPARE unit_append (INTEGER, TEXT, TEXT, TEXT, TEXT, TEXT, BYTEA, FLOAT8) AS
INSERT INTO torpor_outbox (shard, key, topic, type, id, headers, payload, at, part)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE
    WHEN current_setting('transaction_isolation') = 'read committed' THEN (SELECT part FROM torpor_turn)
    ELSE torpor_part()
END)

-- enter --
-- Admits in the plain case: its count tells whether all ids are new and nothing of their queues is parked.
EXECUTE unit_enter({0}, {1}, {2}, {3})

-- enter_one --
-- The same for one id, of a queue or of none.
EXECUTE unit_enter_one({0}, {1}, {2}, {3})

-- enter_pooled --
-- The same where nothing stays prepared: a row tells whether all ids are new and nothing of the binding is parked.
SELECT FROM torpor_admit({0}, {1}, {3})

-- blocked --
-- Those of the queues that have a parked row in a binding. The limit keeps it from reading a long queue.
SELECT wanted.queue FROM unnest($2::text []) AS wanted (queue) CROSS JOIN LATERAL (
    SELECT FROM torpor_parked WHERE binding = $1 AND torpor_parked.queue = wanted.queue LIMIT 1
) AS held

-- claim --
-- Takes a row out, unless an operator holds it.
DELETE FROM torpor_parked WHERE number = $1 AND due_at IS NOT NULL

-- append --
-- Adds to the outbox log, under the locks of the shards: with parameters, or with literals so that it can be sent
-- together with COMMIT. An array of texts is dear to encode, so each comes as one text, between separators that no
-- stored text holds.
SELECT torpor_append(
    {0}, string_to_array({1}, E'\x1a;', E'\x1a0'), string_to_array({2}, E'\x1a;'), string_to_array({3}, E'\x1a;'),
    string_to_array({4}, E'\x1a;'), string_to_array({5}, E'\x1a;'), {6}, {7}
)

-- append_one --
-- The same for one message, at half the cost. The lock is a statement of its own, so that the other's snapshot and its
-- nextval come after it.
EXECUTE unit_lock({0}); EXECUTE unit_append({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7})

-- append_one_pooled --
-- The same where nothing stays prepared.
SELECT torpor_append_one({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7})

-- park --
-- Sets messages aside. A row that was claimed keeps its number, and so its place before those that wait behind it.
INSERT INTO torpor_parked
(number, binding, queue, key, topic, type, id, headers, payload, reason, attempts, at, due_at)
SELECT
    coalesce(one.number, nextval(pg_get_serial_sequence('torpor_parked', 'number'))),
    one.binding, one.queue, one.key, one.topic, one.type, one.id, one.headers, one.payload,
    one.reason, one.attempts, one.at, one.due_at
FROM unnest(
    $1::bigint [], $2::text [], $3::text [], $4::text [], $5::text [], $6::text [], $7::text [], $8::text [],
    $9::bytea [], $10::text [], $11::integer [], $12::float8 [], $13::float8 []
) WITH ORDINALITY AS one (
    number, binding, queue, key, topic, type, id, headers, payload, reason, attempts, at, due_at, nth
)
ORDER BY one.nth

-- set_timers --
-- Adds timers; one takes the place of another of its name.
INSERT INTO torpor_timer (handle, name, due_at, key, topic, type, id, headers, payload)
SELECT * FROM unnest(
    $1::text [], $2::text [], $3::float8 [], $4::text [], $5::text [], $6::text [], $7::text [], $8::text [],
    $9::bytea []
)
ON CONFLICT (handle) DO UPDATE SET
    name = excluded.name, due_at = excluded.due_at, key = excluded.key, topic = excluded.topic, type = excluded.type,
    id = excluded.id, headers = excluded.headers, payload = excluded.payload

-- cancel --
-- Takes a timer out, and when a time is given only with that one.
DELETE FROM torpor_timer WHERE handle = $1 AND ($2::float8 IS NULL OR due_at = $2)

-- due_timers --
-- The timers whose time has come.
SELECT name, due_at, topic, payload, id, type, key, headers FROM torpor_timer
WHERE due_at <= $1 ORDER BY due_at, handle LIMIT $2

-- next_due --
-- The time of the first timer.
SELECT min(due_at) FROM torpor_timer

-- pending --
-- The rows of one shard past the relay's cursor, and past what is on its way (positions by shard, from the first), in one
-- part of the log or in all of it. The adapter joins the shards with UNION ALL and orders them by their position. Since
-- each is in order by itself (the planner does not see that of the whole), they are merged, and hardly a row is read in
-- vain.
SELECT shard, pos, topic, payload, id, type, key, headers FROM torpor_outbox{part} AS entry
WHERE
    shard = {shard}
    AND pos > greatest((SELECT pos FROM torpor_cursor WHERE shard = {shard}), ($2::bigint [])[{shard} + 1])
ORDER BY entry.pos LIMIT $1

-- pending_state --
-- One row before those: whose turn it is, whether other parts may have rows past the cursors, the keeper's epoch, and what
-- a replay leaves out, by shard. It has no payload.
SELECT
    (SELECT part FROM torpor_turn)::integer AS shard,
    (SELECT count(*) FROM torpor_cursor WHERE pos < turned) AS pos,
    (SELECT epoch FROM torpor_lease WHERE name = 'keeper')::text AS topic,
    NULL::bytea AS payload, NULL::text AS id, NULL::text AS type, NULL::text AS key,
    (
        SELECT json_object_agg(shard, json_build_array(reached, topic))::text FROM torpor_cursor
        WHERE pos < reached AND topic IS NOT NULL
    ) AS headers

-- advance --
-- Moves cursors, never back, while the keeper's lease has one's own epoch; tells whether it has. The lease's row is
-- locked, so a takeover comes before or after, never between. The commit does not wait for the disk: when the server dies
-- a cursor may go back by what it has not written yet, with what was parked on the way, and the messages are published
-- twice, as is promised.
WITH mine AS (
    SELECT epoch FROM torpor_lease WHERE name = 'keeper' AND epoch = $3 FOR SHARE
), moved AS (
    UPDATE torpor_cursor SET pos = wanted.pos FROM mine, unnest($1::integer [], $2::bigint []) AS wanted (shard, pos)
    WHERE torpor_cursor.shard = wanted.shard AND torpor_cursor.pos < wanted.pos
)
SELECT count(*), set_config('synchronous_commit', 'off', TRUE) FROM mine

-- keeper_epoch --
-- The epoch that the keeper's lease has now.
SELECT epoch FROM torpor_lease WHERE name = 'keeper'

-- raise_epoch --
-- Leaves the keeper's lease with its holder, who must look anew.
INSERT INTO torpor_lease AS held (name, holder, epoch, expires_at) VALUES ('keeper', NULL, 1, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET epoch = held.epoch + 1

-- first_since --
-- The first published row of each shard that is not older than a time.
SELECT torpor_outbox.shard, min(torpor_outbox.pos) FROM torpor_cursor
JOIN torpor_outbox ON torpor_outbox.shard = torpor_cursor.shard AND torpor_outbox.pos <= torpor_cursor.pos
WHERE torpor_outbox.at >= $1 GROUP BY torpor_outbox.shard

-- published_since --
-- How many rows a replay would publish again.
WITH first AS (
    SELECT torpor_outbox.shard, min(torpor_outbox.pos) AS pos, max(torpor_cursor.pos) AS reached FROM torpor_cursor
    JOIN torpor_outbox ON torpor_outbox.shard = torpor_cursor.shard AND torpor_outbox.pos <= torpor_cursor.pos
    WHERE torpor_outbox.at >= $1 GROUP BY torpor_outbox.shard
)
SELECT torpor_outbox.topic, count(*) FROM first
JOIN torpor_outbox ON torpor_outbox.shard = first.shard AND torpor_outbox.pos BETWEEN first.pos AND first.reached
WHERE $2::text IS NULL OR torpor_outbox.topic = $2 GROUP BY torpor_outbox.topic ORDER BY torpor_outbox.topic

-- rewind --
-- Moves cursors back to before the given rows. A replay of another topic that is still under way is joined with this one.
UPDATE torpor_cursor SET
    pos = least(torpor_cursor.pos, coalesce(wanted.pos - 1, torpor_cursor.pos)),
    reached = greatest(torpor_cursor.reached, torpor_cursor.pos),
    topic = CASE
        WHEN torpor_cursor.pos < torpor_cursor.reached AND torpor_cursor.topic IS DISTINCT FROM $3 THEN NULL ELSE $3
    END
FROM torpor_cursor AS one
LEFT JOIN unnest($1::integer [], $2::bigint []) AS wanted (shard, pos) ON wanted.shard = one.shard
WHERE torpor_cursor.shard = one.shard

-- log_state --
-- How much the log keeps, since when, how much of it waits, since when.
SELECT
    (SELECT count(*) FROM torpor_outbox),
    (
        SELECT min(first.at) FROM torpor_cursor CROSS JOIN LATERAL (
            SELECT at FROM torpor_outbox WHERE shard = torpor_cursor.shard ORDER BY pos LIMIT 1
        ) AS first
    ),
    (
        SELECT count(*) FROM torpor_cursor
        JOIN torpor_outbox ON torpor_outbox.shard = torpor_cursor.shard AND torpor_outbox.pos > torpor_cursor.pos
    ),
    (
        SELECT min(first.at) FROM torpor_cursor CROSS JOIN LATERAL (
            SELECT at FROM torpor_outbox WHERE shard = torpor_cursor.shard AND pos > torpor_cursor.pos
            ORDER BY pos LIMIT 1
        ) AS first
    )

-- cursors --
-- How far each shard is published.
SELECT shard, pos FROM torpor_cursor ORDER BY shard

-- is_old --
-- Whether all rows of a part were published and its last ones are from before a time, or from too far in the future;
-- NULL when it has none. Rows are in order of time, so the last of each shard speaks for the others.
SELECT bool_and(last.pos <= reached.pos AND (last.at < $1 OR last.at > $2)) FROM torpor_cursor AS reached
CROSS JOIN LATERAL (
    SELECT pos, at FROM torpor_outbox_{part} WHERE shard = reached.shard ORDER BY pos DESC LIMIT 1
) AS last

-- lock_part --
-- Has a part for oneself, or gives up soon: whoever comes later waits behind this.
SET LOCAL lock_timeout = '50ms'; LOCK TABLE torpor_outbox_{part} IN ACCESS EXCLUSIVE MODE

-- empty_part --
-- Removes all rows of a part, and leaves nothing of them.
TRUNCATE torpor_outbox_{part}

-- turn --
-- The part that rows are appended to.
SELECT part FROM torpor_turn

-- lock_shards --
-- Waits for the appends under way, and lets no other begin.
SET LOCAL lock_timeout = '50ms'; SELECT torpor_lock_shards()

-- mark_turn --
-- Notes the last position that each shard has: none above it is in the parts that were filled until now.
UPDATE torpor_cursor SET turned = coalesce(
    (SELECT pos FROM torpor_outbox WHERE shard = torpor_cursor.shard ORDER BY pos DESC LIMIT 1), turned
)

-- give_turn --
-- Lets appends go on in another part.
UPDATE torpor_turn SET part = $1

-- first_at --
-- The time of a part's first row.
SELECT min(first.at) FROM torpor_cursor CROSS JOIN LATERAL (
    SELECT at FROM torpor_outbox_{part} WHERE shard = torpor_cursor.shard ORDER BY pos LIMIT 1
) AS first

-- has_rows --
-- A row when a part has any.
SELECT FROM torpor_outbox_{part} LIMIT 1

-- trim_inbox --
-- Removes some old inbox rows.
DELETE FROM torpor_inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM torpor_inbox WHERE at < $1 LIMIT $2))

-- due --
-- The first row of each queue in its binding, and every row without a key, once its time has come. It leaps from queue
-- to queue along the index, so that a hundred thousand rows waiting behind one key cost nothing.
WITH RECURSIVE head AS (
    (
        SELECT binding, queue, number, due_at FROM torpor_parked
        WHERE queue IS NOT NULL ORDER BY binding, queue, number LIMIT 1
    )
    UNION ALL
    SELECT next.* FROM head CROSS JOIN LATERAL (
        SELECT binding, queue, number, due_at FROM torpor_parked
        WHERE (binding, queue) > (head.binding, head.queue) AND queue IS NOT NULL
        ORDER BY binding, queue, number LIMIT 1
    ) AS next
), ripe AS (
    (SELECT number FROM head WHERE due_at <= $1 ORDER BY number LIMIT $2)
    UNION ALL
    (SELECT number FROM torpor_parked WHERE queue IS NULL AND due_at <= $1 ORDER BY number LIMIT $2)
)
SELECT number, binding, topic, payload, id, type, key, headers, reason, attempts, at, due_at
FROM torpor_parked WHERE number = ANY(ARRAY(SELECT number FROM ripe ORDER BY number LIMIT $2))
ORDER BY number

-- parked --
-- Parked rows that fit a condition.
SELECT number, binding, topic, payload, id, type, key, headers, reason, attempts, at, due_at
FROM torpor_parked WHERE {where} ORDER BY {order} LIMIT {limit}

-- parked_numbers --
-- Their numbers alone.
SELECT number FROM torpor_parked WHERE {where} ORDER BY {order} LIMIT {limit}

-- first_of_queue --
-- The first row of the queue that a row stands in.
SELECT head.number FROM torpor_parked AS one CROSS JOIN LATERAL (
    SELECT number FROM torpor_parked WHERE binding = one.binding AND queue = one.queue
    ORDER BY binding, queue, number LIMIT 1
) AS head
WHERE one.number = $1

-- edit --
-- Changes a row's message, and keeps what it held. A row that a unit is just claiming is left to it.
WITH old AS (
    SELECT number, payload FROM torpor_parked WHERE number = $1 FOR UPDATE SKIP LOCKED
), kept AS (
    INSERT INTO torpor_edit (number, at, payload) SELECT number, $2::float8, payload FROM old
)
UPDATE torpor_parked SET payload = $3, headers = $4 FROM old WHERE torpor_parked.number = old.number

-- edits --
-- What a row held before each edit.
SELECT at, payload FROM torpor_edit WHERE number = $1 ORDER BY at

-- redrive --
-- Makes rows due. Those that wait behind their queue stay so; those that a unit is just claiming are left to it.
UPDATE torpor_parked SET due_at = $2 WHERE number IN (
    SELECT number FROM torpor_parked WHERE number = ANY($1::bigint []) AND due_at IS DISTINCT FROM 0
    FOR UPDATE SKIP LOCKED
)

-- discard --
-- Deletes rows, with what they held before edits; tells how many. Those that a unit is just claiming are left to it.
WITH gone AS (
    DELETE FROM torpor_parked WHERE number IN (
        SELECT number FROM torpor_parked WHERE number = ANY($1::bigint []) FOR UPDATE SKIP LOCKED
    ) RETURNING number
), forgotten AS (
    DELETE FROM torpor_edit WHERE number IN (SELECT number FROM gone)
)
SELECT count(*) FROM gone

-- count_parked --
-- How many rows that fit a condition each binding has.
SELECT binding, count(*) FROM torpor_parked WHERE {where} GROUP BY binding

-- lease --
-- Who holds a lease, unless its time is over, and its epoch.
SELECT CASE WHEN expires_at > clock_timestamp() THEN holder END, epoch FROM torpor_lease WHERE name = $1

-- take --
-- Takes the key of a request; no row while another has it.
SELECT fingerprint, status, headers, body FROM torpor_take($1, $2, $3, $4)

-- keep_answer --
-- Keeps an answer, which is the first of its key.
INSERT INTO torpor_answer (place, key, fingerprint, status, headers, body, until) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- forget_answers --
-- Removes some of the answers whose time is over.
DELETE FROM torpor_answer WHERE ctid = ANY(ARRAY(SELECT ctid FROM torpor_answer WHERE until < $1 LIMIT $2))

-- acquire --
-- Takes a lease that is free, expired or one's own. The epoch rises with each new holder. The clock is the database's.
INSERT INTO torpor_lease AS held (name, holder, epoch, expires_at)
VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET
    epoch = CASE WHEN held.holder = excluded.holder THEN held.epoch ELSE held.epoch + 1 END,
    holder = excluded.holder,
    expires_at = clock_timestamp() + make_interval(secs => $3)
WHERE held.holder IS NULL OR held.holder = excluded.holder OR held.expires_at <= clock_timestamp()
RETURNING epoch

-- release --
-- Frees a lease, if it is still held.
UPDATE torpor_lease SET holder = NULL WHERE name = $1 AND holder = $2

-- has_table --
-- Whether a schema has a table. It reads the catalog as a table: to_regclass answers from a cache, and whoever has asked
-- before the lock of the migrations and asks again behind it gets the old answer.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE nspname = $1 AND relname = $2
)

-- applied --
-- The migrations that were applied.
SELECT name, checksum FROM torpor_migration

-- record_migration --
-- Remembers a migration.
INSERT INTO torpor_migration (name, checksum, at) VALUES ($1, $2, $3)

-- count_shards --
-- How many shards the outbox log has.
SELECT count(*) FROM torpor_cursor

-- shelf_find --
-- What lies under keys.
SELECT key, value, revision FROM torpor_shelf WHERE key = ANY($1::bytea[]) AND expires_at > clock_timestamp()

-- shelf_put --
-- Lays a value under a key, whatever is there. The clock is the database's.
INSERT INTO torpor_shelf (key, value, revision, expires_at, size)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), $5)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value, revision = excluded.revision, expires_at = excluded.expires_at, size = excluded.size

-- shelf_add --
-- Lays a value under a key where nothing is.
INSERT INTO torpor_shelf AS there (key, value, revision, expires_at, size)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), $5)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value, revision = excluded.revision, expires_at = excluded.expires_at, size = excluded.size
WHERE there.expires_at <= clock_timestamp()

-- shelf_replace --
-- Lays a value under a key in place of one revision.
UPDATE torpor_shelf SET
    value = $2, revision = $3, expires_at = clock_timestamp() + make_interval(secs => $4), size = $5
WHERE key = $1 AND revision = $6 AND expires_at > clock_timestamp()

-- shelf_remove --
-- Takes away what lies under keys, locked in one order by whoever does.
DELETE FROM torpor_shelf WHERE key IN (
    SELECT key FROM torpor_shelf WHERE key = ANY($1::bytea[]) ORDER BY key FOR UPDATE
)

-- shelf_trim --
-- Takes away what is past its time, and of the rest the largest for which there is no room. Rows that somebody changes
-- at the moment are left.
DELETE FROM torpor_shelf WHERE key IN (
    SELECT key FROM torpor_shelf WHERE key IN (
        SELECT key FROM (
            SELECT key, expires_at, sum(size) OVER (ORDER BY size, key) AS taken FROM torpor_shelf
        ) AS laid
        WHERE expires_at <= clock_timestamp() OR taken > $1
    )
    ORDER BY key FOR UPDATE SKIP LOCKED
)
