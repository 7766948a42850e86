"""The notifications service: one row for each message that a customer gets."""

from __future__ import annotations

from typing import Annotated

from notifications.models import Kind, Notification
from shop_events import Name, OrderCancelled, OrderPlaced, OrderShipped
from torpor import Cursor, Keyset, Page, Service, Tx, new_id

notifications = Service("notifications", migrations="migrations", public=True)

TELL = """
    INSERT INTO notification (id, customer_id, order_id, kind, text) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (order_id, kind) DO NOTHING
"""
TOLD = "SELECT id, order_id, kind, text FROM notification WHERE customer_id = $1"
LATEST = Keyset({"-id": str})  # ids sort by time


@notifications.get("/notifications/{customer_id}")
async def show_mailbox(customer_id: Name, cursor: Annotated[Cursor, LATEST], tx: Tx) -> Page[Notification]:
    """What a customer has been told, newest first; nothing, for one that was never heard of."""
    return cursor.page(await cursor.fetch(tx, TOLD, customer_id), Notification.model_validate)


@notifications.on(OrderPlaced)
async def tell_placed(event: OrderPlaced, tx: Tx) -> None:
    """Thanks for the order."""
    tell(tx, event, "placed", f"Thank you. Your order {event.order_id} is in our books.")


@notifications.on(OrderShipped)
async def tell_shipped(event: OrderShipped, tx: Tx) -> None:
    """Good news."""
    tell(tx, event, "shipped", f"Your order {event.order_id} is on its way.")


@notifications.on(OrderCancelled)
async def tell_cancelled(event: OrderCancelled, tx: Tx) -> None:
    """Bad news, with the reason."""
    tell(tx, event, "cancelled", f"Your order {event.order_id} is cancelled: {event.reason}.")


def tell(tx: Tx, event: OrderPlaced | OrderShipped | OrderCancelled, kind: Kind, text: str) -> None:
    """Writes the message, unless it was written before."""
    tx.write(TELL, new_id(), event.customer_id, event.order_id, kind, text)
