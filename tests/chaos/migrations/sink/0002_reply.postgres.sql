-- The effects of answered requests. Nothing is unique, so that a double one would be seen.
CREATE TABLE reply (key TEXT NOT NULL, number INTEGER NOT NULL, at DOUBLE PRECISION NOT NULL);
