-- The framework's own statements on PostgreSQL, each a block with its name. The adapter reads this file once, on first
-- use, and qualifies each name that begins with torpor_.

-- admit --
-- Enters ids into a binding's inbox; tells those that are new. It waits for a unit that is entering the same id.
INSERT INTO torpor_inbox (binding, id, at) SELECT $1, id, $3 FROM unnest($2::text []) AS id
ON CONFLICT DO NOTHING RETURNING id

-- admit_few --
-- The same with literals, so that it can be sent together with BEGIN: a row tells the plain case.
SELECT FROM torpor_admit({binding}, ARRAY[{ids}], {at})

-- blocked --
-- Those of the queues that have a parked row in a binding. The limit keeps it from reading a long queue.
SELECT wanted.queue FROM unnest($2::text []) AS wanted (queue) CROSS JOIN LATERAL (
    SELECT FROM torpor_parked WHERE binding = $1 AND torpor_parked.queue = wanted.queue LIMIT 1
) AS held

-- claim --
-- Takes a row out, unless an operator holds it.
DELETE FROM torpor_parked WHERE number = $1 AND due_at IS NOT NULL

-- append --
-- Adds to the outbox log, under the locks of the shards.
SELECT torpor_append($1, $2, $3, $4, $5, $6, $7, $8)

-- append_one --
-- The same for one message.
SELECT torpor_append_one($1, $2, $3, $4, $5, $6, $7, $8)

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
-- The rows of one shard past the relay's cursor. The adapter joins the shards with UNION ALL and orders them by their
-- position. Since each is in order by itself (the planner does not see that of the whole), they are merged, and hardly a
-- row is read in vain.
SELECT shard, pos, topic, payload, id, type, key, headers FROM torpor_outbox
WHERE shard = {shard} AND pos > (SELECT pos FROM torpor_cursor WHERE shard = {shard})
ORDER BY torpor_outbox.pos LIMIT $1

-- advance --
-- Moves cursors, never back, while the relay's lease has one's own epoch; tells whether it has. The lease's row is
-- locked, so a takeover comes before or after, never between.
WITH mine AS (
    SELECT epoch FROM torpor_lease WHERE name = 'relay' AND epoch = $3 FOR SHARE
), moved AS (
    UPDATE torpor_cursor SET pos = wanted.pos FROM mine, unnest($1::integer [], $2::bigint []) AS wanted (shard, pos)
    WHERE torpor_cursor.shard = wanted.shard AND torpor_cursor.pos < wanted.pos
)
SELECT count(*) FROM mine

-- relay_epoch --
-- The epoch that the relay's lease has now.
SELECT epoch FROM torpor_lease WHERE name = 'relay'

-- trim_outbox --
-- Removes a few of each shard's oldest published rows. They are in order of time, so it ends at the first young one.
DELETE FROM torpor_outbox USING (
    SELECT old.shard, old.pos FROM torpor_cursor AS reached CROSS JOIN LATERAL (
        SELECT shard, pos, at FROM torpor_outbox
        WHERE shard = reached.shard AND pos <= reached.pos ORDER BY shard, pos LIMIT $2
    ) AS old
    WHERE old.at < $1
) AS gone
WHERE torpor_outbox.shard = gone.shard AND torpor_outbox.pos = gone.pos

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
-- Parked rows, of one binding or queue when asked.
SELECT number, binding, topic, payload, id, type, key, headers, reason, attempts, at, due_at
FROM torpor_parked
WHERE ($1::text IS NULL OR binding = $1) AND ($2::text IS NULL OR queue = $2)
ORDER BY number LIMIT $3

-- redrive --
-- Makes rows due. Those that a unit is just claiming are left to it.
UPDATE torpor_parked SET due_at = $2 WHERE number IN (
    SELECT number FROM torpor_parked WHERE number = ANY($1::bigint []) FOR UPDATE SKIP LOCKED
)

-- discard --
-- Deletes rows. Those that a unit is just claiming are left to it.
DELETE FROM torpor_parked WHERE number IN (
    SELECT number FROM torpor_parked WHERE number = ANY($1::bigint []) FOR UPDATE SKIP LOCKED
)

-- count_parked --
-- How many rows each binding has.
SELECT binding, count(*) FROM torpor_parked GROUP BY binding

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
