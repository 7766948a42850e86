-- One lease for all duties.
UPDATE torpor_lease SET name = 'keeper' WHERE name = 'relay';

DELETE FROM torpor_lease WHERE name = 'timers';

-- How far the cursor had come when a replay moved it back, and the only topic that is published again up to there: all
-- of them when it is NULL.
ALTER TABLE torpor_cursor ADD COLUMN reached INTEGER NOT NULL DEFAULT 0;

ALTER TABLE torpor_cursor ADD COLUMN topic TEXT;
