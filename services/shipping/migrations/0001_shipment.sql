CREATE TABLE shipment (
    order_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    units BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('shipped', 'refused')),
    reason TEXT
);
