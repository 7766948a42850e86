-- A customer is told each thing about an order once.
CREATE TABLE notification (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    order_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (order_id, kind)
);

CREATE INDEX notification_by_customer ON notification (customer_id, id);
