CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    status TEXT NOT NULL,
    total_cents BIGINT NOT NULL,
    items JSON NOT NULL,
    reason TEXT
);

-- The list is read newest first; ids sort by time.
CREATE INDEX orders_by_customer ON orders (customer_id, id);
CREATE INDEX orders_by_status ON orders (status, id);

-- What inventory has listed, so that an order of an unknown SKU is refused at the door.
CREATE TABLE catalogue (
    sku TEXT PRIMARY KEY
);
