-- available + reserved + shipped changes by PUT /inventory/{sku} and by nothing else.
CREATE TABLE stock (
    sku TEXT PRIMARY KEY,
    available BIGINT NOT NULL CHECK (available >= 0),
    reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    shipped BIGINT NOT NULL DEFAULT 0 CHECK (shipped >= 0),
    price_cents BIGINT NOT NULL CHECK (price_cents >= 0)
);

-- What each order holds, so that exactly that is released or shipped. The rows stay, as the order's receipt.
CREATE TABLE reservation (
    order_id TEXT NOT NULL,
    sku TEXT NOT NULL REFERENCES stock (sku),
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    price_cents BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'released', 'shipped')),
    PRIMARY KEY (order_id, sku)
);
