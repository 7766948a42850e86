-- balance_cents + taken_cents changes by PUT /payments/accounts/{customer_id} and by nothing else.
CREATE TABLE account (
    customer_id TEXT PRIMARY KEY,
    balance_cents BIGINT NOT NULL CHECK (balance_cents >= 0),
    taken_cents BIGINT NOT NULL CHECK (taken_cents >= 0)
);

-- One payment for each order, refused ones too: an order is charged once.
CREATE TABLE payment (
    order_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    amount_cents BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('taken', 'refused', 'refunded'))
);
