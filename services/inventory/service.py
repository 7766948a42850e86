"""The inventory service: stock by SKU, reserved for each order all or nothing.

It speaks SQL. Two orders that want the last unit at once cannot both have it: `CHECK (available >= 0)` fails the
second, whose retry then sees the truth and refuses.
"""

from __future__ import annotations

from fastapi import HTTPException

from inventory.models import Holding, Stock, StockLevel, total_of
from shop_events import (
    Line,
    Name,
    OrderPlaced,
    OrderShipped,
    PaymentRefunded,
    PaymentRefused,
    SkuListed,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)
from torpor import Retry, Service, Tx

inventory = Service("inventory", migrations="migrations", public=True)

LIST = """
    INSERT INTO stock (sku, available, price_cents) VALUES ($1, $2, $3)
    ON CONFLICT (sku) DO UPDATE SET available = excluded.available, price_cents = excluded.price_cents
"""
RESERVE = "UPDATE stock SET available = available - $2, reserved = reserved + $2 WHERE sku = $1"
RELEASE = "UPDATE stock SET reserved = reserved - $2, available = available + $2 WHERE sku = $1"
SHIP = "UPDATE stock SET reserved = reserved - $2, shipped = shipped + $2 WHERE sku = $1"
HOLD = "INSERT INTO reservation (order_id, sku, quantity, price_cents) VALUES ($1, $2, $3, $4)"
HELD = "SELECT sku, quantity, price_cents FROM reservation WHERE order_id = $1 AND state = 'held' ORDER BY sku"
CLOSE = "UPDATE reservation SET state = $2 WHERE order_id = $1 AND state = 'held'"


@inventory.put("/inventory/{sku}")
async def put_stock(sku: Name, level: StockLevel, tx: Tx) -> Stock:
    """Sets what is for sale, and lists the SKU."""
    await tx.execute(LIST, sku, level.available, level.price_cents)
    tx.publish(SkuListed(sku=sku, price_cents=level.price_cents))
    return await show_stock(sku, tx)


@inventory.get("/inventory/{sku}", responses={404: {"description": "There is no such SKU."}})
async def show_stock(sku: Name, tx: Tx) -> Stock:
    """One SKU."""
    row = await tx.fetch_one("SELECT * FROM stock WHERE sku = $1", sku)
    if row is None:
        raise HTTPException(404, f"There is no SKU {sku!r}. List it: PUT /inventory/{sku}.")
    return Stock.model_validate(row)


@inventory.on(OrderPlaced, retry=Retry(attempts=5))
async def reserve(event: OrderPlaced, tx: Tx) -> StockReserved | StockRefused | None:
    """Sets all lines aside, or none."""
    if await tx.fetch_one("SELECT 1 FROM reservation WHERE order_id = $1", event.order_id):
        return None
    holdings: list[Holding] = []
    for line in sorted(event.lines, key=lambda line: line.sku):
        found = await offer(tx, line)
        if isinstance(found, str):
            return StockRefused(order_id=event.order_id, reason=found)
        holdings.append(found)
    hold(tx, event.order_id, holdings)
    return StockReserved(
        order_id=event.order_id, customer_id=event.customer_id, total_cents=total_of(holdings), lines=event.lines
    )


@inventory.on(OrderShipped)
async def ship(event: OrderShipped, tx: Tx) -> StockShipped | None:
    """Writes off what has left."""
    holdings = await close(tx, event.order_id, SHIP, "shipped")
    if not holdings:
        return None
    return StockShipped(order_id=event.order_id, total_cents=total_of(holdings))


@inventory.on(PaymentRefused)
async def release_unpaid(event: PaymentRefused, tx: Tx) -> StockReleased | None:
    """The customer cannot pay: the goods are for sale again."""
    return await release(tx, event.order_id, event.reason)


@inventory.on(PaymentRefunded)
async def release_refunded(event: PaymentRefunded, tx: Tx) -> StockReleased | None:
    """The goods cannot be carried, and the money has been given back: the goods are for sale again."""
    return await release(tx, event.order_id, event.reason)


async def offer(tx: Tx, line: Line) -> Holding | str:
    """What the line would hold, or why it cannot be had."""
    stock = await tx.fetch_one("SELECT available, price_cents FROM stock WHERE sku = $1", line.sku)
    if stock is None:
        return f"unknown SKU {line.sku!r}"
    if stock["available"] < line.quantity:
        return f"out of stock: {line.quantity} of {line.sku!r} asked for, {stock['available']} there"
    return Holding(sku=line.sku, quantity=line.quantity, price_cents=stock["price_cents"])


def hold(tx: Tx, order_id: str, holdings: list[Holding]) -> None:
    """Moves units from available to reserved, and notes whose they are."""
    for holding in holdings:
        tx.write(RESERVE, holding.sku, holding.quantity)
    for holding in holdings:
        tx.write(HOLD, order_id, holding.sku, holding.quantity, holding.price_cents)


async def close(tx: Tx, order_id: str, move: str, state: str) -> list[Holding]:
    """Moves what the order still holds out of reserved, and returns it: nothing when it was closed before."""
    holdings = [Holding.model_validate(row) for row in await tx.fetch(HELD, order_id)]
    for holding in holdings:
        tx.write(move, holding.sku, holding.quantity)
    tx.write(CLOSE, order_id, state)
    return holdings


async def release(tx: Tx, order_id: str, reason: str) -> StockReleased | None:
    """Gives back what the order holds, and says why."""
    holdings = await close(tx, order_id, RELEASE, "released")
    if not holdings:
        return None
    return StockReleased(order_id=order_id, total_cents=total_of(holdings), reason=reason)
