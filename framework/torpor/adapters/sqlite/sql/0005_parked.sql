-- What parked messages held before an operator edited them. Rows outlive the message, which leaves its table when it is
-- handled, and go with one that is discarded.
CREATE TABLE torpor_edit (
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    payload BLOB NOT NULL
);

CREATE INDEX torpor_edit_number ON torpor_edit (number, at);

-- To find a key's messages in all bindings.
CREATE INDEX torpor_parked_by_key ON torpor_parked (key, number) WHERE key IS NOT NULL;
