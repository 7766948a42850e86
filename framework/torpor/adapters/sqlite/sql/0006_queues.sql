-- What a parked row stands in line with: its key, unless the binding's order says otherwise.
ALTER TABLE torpor_parked ADD COLUMN queue TEXT;

UPDATE torpor_parked SET queue = key;

DROP INDEX torpor_parked_key;

DROP INDEX torpor_parked_unkeyed;

CREATE INDEX torpor_parked_queue ON torpor_parked (binding, queue, number);

CREATE INDEX torpor_parked_unqueued ON torpor_parked (due_at) WHERE queue IS NULL;
