-- What parked messages held before an operator edited them. Rows outlive the message, which leaves its table when it is
-- handled, and go with one that is discarded.
CREATE TABLE torpor_edit (
    number BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    payload BYTEA NOT NULL
);

CREATE INDEX ON torpor_edit (number, at);

-- To find a key's messages in all bindings. By its hash, for a key may be longer than a tree's row.
CREATE INDEX ON torpor_parked USING hash (key);
