-- What requests with a key were answered with. A place is a route, or a route and a caller.
CREATE TABLE torpor_answer (
    place TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (place, key)
);

CREATE INDEX torpor_answer_until ON torpor_answer (until);
