CREATE TABLE note (
    id TEXT PRIMARY KEY,
    author TEXT NOT NULL,
    text TEXT NOT NULL
);

CREATE TABLE tally (
    author TEXT PRIMARY KEY,
    notes INTEGER NOT NULL
);
