-- What was accepted from the client, and when.
CREATE TABLE sent (
    key TEXT NOT NULL, number INTEGER NOT NULL, at DOUBLE PRECISION NOT NULL, PRIMARY KEY (key, number)
);
