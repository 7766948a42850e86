-- The framework's own statements on SQLite, each a block with its name. The adapter reads this file once, on first use.

-- admit_one --
-- Enters one id into a binding's inbox; changes a row when it is new.
INSERT INTO torpor_inbox (binding, id, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- admit_many --
-- The same for many rows; tells the ids that are new. (For one row RETURNING costs five times the insert.)
INSERT INTO torpor_inbox (binding, id, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id

-- has_parked --
-- Whether a binding has parked rows at all: nearly always not, and then no key has to be asked for.
SELECT 1 FROM torpor_parked WHERE binding = ?1 LIMIT 1

-- is_blocked --
-- Whether a queue has a parked row in a binding.
SELECT 1 FROM torpor_parked WHERE binding = ?1 AND queue = ?2 LIMIT 1

-- claim --
-- Takes a row out, unless an operator holds it.
DELETE FROM torpor_parked WHERE number = ?1 AND due_at IS NOT NULL

-- append --
-- Adds to the outbox log. The write lock is held until the commit, so positions follow the order of commits.
INSERT INTO torpor_outbox (key, topic, type, id, headers, payload, at) VALUES (?, ?, ?, ?, ?, ?, ?)

-- park --
-- Sets messages aside. A row that was claimed keeps its number, and so its place before those that wait behind it.
INSERT INTO torpor_parked (number, binding, queue, key, topic, type, id, headers, payload, reason, attempts, at, due_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- pending --
-- The rows past the relay's cursor and a position, and whether a replay leaves them out.
SELECT
    shard, pos,
    coalesce(
        pos <= (SELECT reached FROM torpor_cursor WHERE shard = 0)
        AND topic <> (SELECT topic FROM torpor_cursor WHERE shard = 0),
        0
    ),
    topic, payload, id, type, key, headers
FROM torpor_outbox
WHERE shard = 0 AND pos > max(coalesce((SELECT pos FROM torpor_cursor WHERE shard = 0), 0), ?2)
ORDER BY pos LIMIT ?1

-- advance --
-- Moves a shard's cursor, never back.
INSERT INTO torpor_cursor (shard, pos) VALUES (?1, ?2)
ON CONFLICT (shard) DO UPDATE SET pos = excluded.pos WHERE excluded.pos > pos

-- keeper_epoch --
-- The epoch that the keeper's lease has now.
SELECT epoch FROM torpor_lease WHERE name = ?1

-- raise_epoch --
-- Leaves a lease with its holder, who must look anew.
INSERT INTO torpor_lease (name, holder, epoch, expires_at) VALUES (?1, NULL, 1, 0)
ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1

-- published_since --
-- How many rows a replay would publish again.
SELECT topic, count(*) FROM torpor_outbox
WHERE
    pos >= (SELECT min(pos) FROM torpor_outbox WHERE at >= ?1)
    AND pos <= coalesce((SELECT pos FROM torpor_cursor WHERE shard = 0), 0)
    AND (?2 IS NULL OR topic = ?2)
GROUP BY topic ORDER BY topic

-- rewind --
-- Moves the cursor back to before the first row of a time. A replay of another topic that is still under way is joined
-- with this one.
UPDATE torpor_cursor SET
    pos = coalesce((
        SELECT min(torpor_outbox.pos) - 1 FROM torpor_outbox WHERE at >= ?1 AND torpor_outbox.pos <= torpor_cursor.pos
    ), pos),
    reached = max(reached, pos),
    topic = CASE WHEN pos < reached AND topic IS NOT ?2 THEN NULL ELSE ?2 END
WHERE shard = 0

-- log_state --
-- How much the log keeps, since when, how much of it waits, since when, and the cursor.
WITH reached (pos) AS (SELECT coalesce(max(pos), 0) FROM torpor_cursor WHERE shard = 0)
SELECT
    (SELECT count(*) FROM torpor_outbox),
    (SELECT at FROM torpor_outbox ORDER BY pos LIMIT 1),
    (SELECT count(*) FROM torpor_outbox WHERE pos > reached.pos),
    (SELECT at FROM torpor_outbox WHERE pos > reached.pos ORDER BY pos LIMIT 1),
    reached.pos
FROM reached

-- trim_outbox --
-- Removes a few of the oldest published rows. Rows are in order of time, so the scan ends at the first young one.
DELETE FROM torpor_outbox WHERE pos IN (
    SELECT pos FROM torpor_outbox
    WHERE pos <= coalesce((SELECT pos FROM torpor_cursor WHERE shard = 0), 0)
    ORDER BY pos LIMIT ?2
) AND at < ?1

-- old_inbox --
-- Some old inbox rows. It reads the whole table, so it runs beside the writer, on a connection of its own.
SELECT binding, id FROM torpor_inbox WHERE at < ?1 LIMIT ?2

-- trim_inbox --
-- Removes one inbox row.
DELETE FROM torpor_inbox WHERE binding = ?1 AND id = ?2

-- due --
-- The first row of each queue in its binding, and every row without one, once its time has come. It leaps from queue to
-- queue along the index, so that a hundred thousand rows waiting in one queue cost nothing. (Comparing the pair of
-- binding and queue at once would read them all: SQLite uses the index for the binding alone then.)
WITH RECURSIVE head (number) AS (
    SELECT * FROM (
        SELECT number FROM torpor_parked WHERE queue IS NOT NULL ORDER BY binding, queue, number LIMIT 1
    )
    UNION ALL
    SELECT coalesce(
        (
            SELECT number FROM torpor_parked
            WHERE binding = here.binding AND queue > here.queue ORDER BY queue, number LIMIT 1
        ),
        (
            SELECT number FROM torpor_parked
            WHERE binding > here.binding AND queue IS NOT NULL ORDER BY binding, queue, number LIMIT 1
        )
    )
    FROM head JOIN torpor_parked AS here ON here.number = head.number
)
SELECT number, binding, topic, payload, id, type, key, headers, reason, attempts, at, due_at
FROM head JOIN torpor_parked USING (number) WHERE due_at <= ?1
UNION ALL
SELECT number, binding, topic, payload, id, type, key, headers, reason, attempts, at, due_at
FROM torpor_parked INDEXED BY torpor_parked_unqueued WHERE queue IS NULL AND due_at <= ?1
ORDER BY number LIMIT ?2

-- parked --
-- Parked rows that fit a condition.
SELECT number, binding, topic, payload, id, type, key, headers, reason, attempts, at, due_at
FROM torpor_parked WHERE {where} ORDER BY number LIMIT ?

-- parked_numbers --
-- Their numbers alone.
SELECT number FROM torpor_parked WHERE {where} ORDER BY number LIMIT ?

-- first_of_queue --
-- The first row of the queue that a row stands in.
SELECT (
    SELECT number FROM torpor_parked WHERE binding = one.binding AND queue = one.queue ORDER BY number LIMIT 1
) FROM torpor_parked AS one WHERE number = ?1 AND queue IS NOT NULL

-- keep_edit --
-- Keeps what a row holds.
INSERT INTO torpor_edit (number, at, payload) SELECT number, ?2, payload FROM torpor_parked WHERE number = ?1

-- edit --
-- Changes a row's message.
UPDATE torpor_parked SET payload = ?2, headers = ?3 WHERE number = ?1

-- edits --
-- What a row held before each edit.
SELECT at, payload FROM torpor_edit WHERE number = ?1 ORDER BY at, rowid

-- discard_edits --
-- Forgets what a row held.
DELETE FROM torpor_edit WHERE number = ?1

-- redrive --
-- Makes a row due, unless it waits behind its queue.
UPDATE torpor_parked SET due_at = ?2 WHERE number = ?1 AND due_at IS NOT 0

-- discard --
-- Deletes a row.
DELETE FROM torpor_parked WHERE number = ?1

-- count_parked --
-- How many rows that fit a condition each binding has.
SELECT binding, count(*) FROM torpor_parked WHERE {where} GROUP BY binding

-- set_timer --
-- Sets timers; one of a known name takes its place.
INSERT OR REPLACE INTO torpor_timer (name, due_at, key, topic, type, id, headers, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- cancel --
-- Takes a timer out, whatever its time when ?2 is NULL.
DELETE FROM torpor_timer WHERE name = ?1 AND (?2 IS NULL OR due_at = ?2)

-- due_timers --
-- Timers whose time has come.
SELECT name, due_at, topic, payload, id, type, key, headers FROM torpor_timer
WHERE due_at <= ?1 ORDER BY due_at, name LIMIT ?2

-- next_timer --
-- The time of the first timer.
SELECT min(due_at) FROM torpor_timer

-- answered --
-- What a request was answered with. One whose time is over is removed first.
SELECT fingerprint, status, headers, body FROM torpor_answer WHERE place = ?1 AND key = ?2

-- forget_answer --
-- Removes an answer whose time is over.
DELETE FROM torpor_answer WHERE place = ?1 AND key = ?2 AND until <= ?3

-- keep_answer --
-- Keeps an answer, which is the first of its key.
INSERT INTO torpor_answer (place, key, fingerprint, status, headers, body, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- forget_answers --
-- Removes some of the answers whose time is over.
DELETE FROM torpor_answer WHERE rowid IN (SELECT rowid FROM torpor_answer WHERE until < ?1 LIMIT ?2)

-- lease --
-- Who holds a lease, its epoch, and until when: lets those who wait ask without the write lock.
SELECT holder, epoch, expires_at FROM torpor_lease WHERE name = ?1

-- acquire --
-- Takes a lease that is free, expired or one's own. The epoch rises with each new holder. ?3 is now, ?4 the end. One
-- that ends after ?5, further ahead than a lease lasts, was taken while the clock was ahead.
INSERT INTO torpor_lease (name, holder, epoch, expires_at) VALUES (?1, ?2, 1, ?4)
ON CONFLICT (name) DO UPDATE SET
    epoch = CASE WHEN holder = excluded.holder THEN epoch ELSE epoch + 1 END,
    holder = excluded.holder,
    expires_at = excluded.expires_at
WHERE holder IS NULL OR holder = excluded.holder OR expires_at <= ?3 OR expires_at > ?5
RETURNING epoch

-- release --
-- Frees a lease, if it is still held.
UPDATE torpor_lease SET holder = NULL WHERE name = ?1 AND holder = ?2

-- applied --
-- The migrations that were applied.
SELECT name, checksum FROM torpor_migration

-- record_migration --
-- Remembers a migration.
INSERT INTO torpor_migration (name, checksum, at) VALUES (?1, ?2, ?3)

-- shelf_find --
-- What lies under a key.
SELECT value, revision FROM torpor_shelf WHERE key = ?1 AND expires_at > ?2

-- shelf_put --
-- Lays a value under a key, whatever is there.
INSERT INTO torpor_shelf (key, value, revision, expires_at, size) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value, revision = excluded.revision, expires_at = excluded.expires_at, size = excluded.size

-- shelf_add --
-- Lays a value under a key where nothing is. ?6 is now.
INSERT INTO torpor_shelf (key, value, revision, expires_at, size) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value, revision = excluded.revision, expires_at = excluded.expires_at, size = excluded.size
WHERE torpor_shelf.expires_at <= ?6

-- shelf_replace --
-- Lays a value under a key in place of one revision. ?6 is now.
UPDATE torpor_shelf SET value = ?2, revision = ?3, expires_at = ?4, size = ?5
WHERE key = ?1 AND revision = ?7 AND expires_at > ?6

-- shelf_remove --
-- Takes away what lies under a key.
DELETE FROM torpor_shelf WHERE key = ?1

-- shelf_trim --
-- Takes away what is past its time, and of the rest the largest for which there is no room. ?1 is now, ?2 the room.
DELETE FROM torpor_shelf WHERE key IN (
    SELECT key FROM (SELECT key, expires_at, sum(size) OVER (ORDER BY size, key) AS taken FROM torpor_shelf)
    WHERE expires_at <= ?1 OR taken > ?2
)
