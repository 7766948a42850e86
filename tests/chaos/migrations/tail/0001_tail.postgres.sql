-- What the handlers did, in order. Nothing is unique but the place, so that a double effect would be seen.
CREATE TABLE effect (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handler TEXT NOT NULL,
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    replica TEXT NOT NULL
);

-- The keys whose cause of failure an operator has removed; '*' stands for all.
CREATE TABLE mended (key TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL);
