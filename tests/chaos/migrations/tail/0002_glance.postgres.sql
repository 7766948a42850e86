-- The effects of fleeting events. Nothing is unique, so that a double one would be seen.
CREATE TABLE glance (key TEXT NOT NULL, number INTEGER NOT NULL, at DOUBLE PRECISION NOT NULL);
