"""The orders service: its routes, and what it learns from the others.

An order is `placed`, then `reserved`, `paid` and `shipped`, or `cancelled` with a reason. The last two are final:
whoever sees them finds stock and money where they belong.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import HTTPException
from sqlmodel import col, select

from orders.models import Accepted, ListedSku, NewOrder, Order, OrderView, Status
from shop_events import (
    Name,
    OrderCancelled,
    OrderPlaced,
    PaymentTaken,
    SkuListed,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)
from torpor import Cursor, Keyset, Page, Service, Transactions, Tx, new_id

orders = Service("orders", migrations="migrations", public=True)

NEWEST = Keyset({"-id": str})  # ids sort by time

# Seconds before each look into the catalogue: a SKU that inventory has just listed is on its way to us.
LOOKS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.6)


@orders.post("/orders", status_code=202, publishes=[OrderPlaced])
async def place(order: NewOrder, transactions: Transactions) -> Accepted:
    """Puts the order in the books and tells the others, if all its SKUs are in the catalogue."""
    unlisted: list[str] = []
    for pause in LOOKS:
        await asyncio.sleep(pause)
        async with transactions() as tx:
            unlisted = await find_unlisted(order, tx)
            if not unlisted:
                return book(order, tx)
    raise HTTPException(422, [unknown_sku(sku) for sku in unlisted])


@orders.get("/orders/{order_id}", responses={404: {"description": "There is no such order."}})
async def show(order_id: Name, tx: Tx) -> OrderView:
    """One order."""
    order = await tx.session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"There is no order {order_id!r}.")
    return OrderView.model_validate(order)


@orders.get("/orders")
async def browse(
    cursor: Annotated[Cursor, NEWEST], tx: Tx, customer_id: Name | None = None, status: Status | None = None
) -> Page[OrderView]:
    """Orders, newest first, a page at a time."""
    wanted = select(Order)
    if customer_id is not None:
        wanted = wanted.where(Order.customer_id == customer_id)
    if status is not None:
        wanted = wanted.where(Order.status == status)
    return cursor.page(await tx.session.exec(cursor.order(wanted)), OrderView.model_validate)


@orders.on(SkuListed)
async def list_sku(event: SkuListed, tx: Tx) -> None:
    """Remembers what can be ordered."""
    await tx.session.merge(ListedSku(sku=event.sku))


@orders.on(StockReserved)
async def mark_reserved(event: StockReserved, tx: Tx) -> None:
    """Learns the total."""
    await advance(tx, event.order_id, "reserved", event.total_cents)


@orders.on(PaymentTaken)
async def mark_paid(event: PaymentTaken, tx: Tx) -> None:
    """The money is there."""
    await advance(tx, event.order_id, "paid", event.total_cents)


@orders.on(StockShipped)
async def mark_shipped(event: StockShipped, tx: Tx) -> None:
    """The end that everybody hopes for."""
    await advance(tx, event.order_id, "shipped", event.total_cents)


@orders.on(StockRefused)
async def cancel_refused(event: StockRefused, tx: Tx) -> OrderCancelled | None:
    """Nothing was taken, so there is nothing to wait for."""
    return await cancel(tx, event.order_id, event.reason)


@orders.on(StockReleased)
async def cancel_released(event: StockReleased, tx: Tx) -> OrderCancelled | None:
    """Stock comes back last, so by now all has been given back."""
    return await cancel(tx, event.order_id, event.reason, event.total_cents)


async def find_unlisted(order: NewOrder, tx: Tx) -> list[str]:
    """The SKUs of the order that are not in the catalogue."""
    skus = {item.sku for item in order.items}
    listed = await tx.session.exec(select(ListedSku.sku).where(col(ListedSku.sku).in_(skus)))
    return sorted(skus.difference(listed))


def book(order: NewOrder, tx: Tx) -> Accepted:
    """Enters the order and publishes it."""
    lines = order.lines()
    placed = Order(id=new_id(), customer_id=order.customer_id, items=[line.model_dump() for line in lines])
    tx.session.add(placed)
    tx.publish(OrderPlaced(order_id=placed.id, customer_id=placed.customer_id, lines=lines))
    return Accepted(id=placed.id)


def unknown_sku(sku: str) -> dict[str, object]:
    """What is wrong with a SKU that is in no catalogue, in FastAPI's form."""
    told = f"Unknown SKU {sku!r}. List it first: PUT /inventory/{sku}."
    return {"type": "unknown_sku", "loc": ["body", "items", "sku"], "msg": told, "input": sku}


async def advance(tx: Tx, order_id: str, status: Status, total_cents: int | None = None) -> Order | None:
    """Moves the order forward; None when it was already there or beyond."""
    order = await tx.session.get(Order, order_id, with_for_update=True)
    if order is None:
        raise LookupError(f"Order {order_id!r} is not in the books, and there is news of it: {status}.")
    return order if order.advance(status, total_cents) else None


async def cancel(tx: Tx, order_id: str, reason: str, total_cents: int | None = None) -> OrderCancelled | None:
    """Ends the order with a reason, and tells it once."""
    order = await advance(tx, order_id, "cancelled", total_cents)
    if order is None:
        return None
    order.reason = reason
    return OrderCancelled(order_id=order.id, customer_id=order.customer_id, reason=reason)
