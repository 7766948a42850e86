"""The shipping service: one shipment for each paid order, if a carrier can take it."""

from __future__ import annotations

from fastapi import HTTPException

from shipping.models import Shipment
from shop_events import Name, OrderShipped, PaymentTaken, ShipmentRefused
from torpor import Service, Tx

shipping = Service("shipping", migrations="migrations", public=True)

CARRIER_LIMIT = 1000
RECORD = "INSERT INTO shipment (order_id, customer_id, units, status, reason) VALUES ($1, $2, $3, $4, $5)"
FIND = "SELECT order_id, customer_id, units, status, reason FROM shipment WHERE order_id = $1"


@shipping.get("/shipping/{order_id}", responses={404: {"description": "There is no such shipment."}})
async def show_shipment(order_id: Name, tx: Tx) -> Shipment:
    """The shipment of an order."""
    row = await tx.fetch_one(FIND, order_id)
    if row is None:
        raise HTTPException(404, f"There is no shipment for order {order_id!r}.")
    return Shipment.model_validate(row)


@shipping.on(PaymentTaken)
async def dispatch(event: PaymentTaken, tx: Tx) -> OrderShipped | ShipmentRefused | None:
    """Hands the goods to the carrier, or says why it will not take them."""
    if await tx.fetch_one(FIND, event.order_id):
        return None
    units = sum(line.quantity for line in event.lines)
    if units > CARRIER_LIMIT:
        reason = f"too heavy: a carrier takes {CARRIER_LIMIT} units, and these are {units}"
        tx.write(RECORD, event.order_id, event.customer_id, units, "refused", reason)
        return ShipmentRefused(order_id=event.order_id, reason=reason)
    tx.write(RECORD, event.order_id, event.customer_id, units, "shipped", None)
    return OrderShipped(order_id=event.order_id, customer_id=event.customer_id)
