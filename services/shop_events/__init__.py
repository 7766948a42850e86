"""The events of the shop: all that its services know of each other.

Each event is keyed by its order (or its SKU), so that what happens to one order is handled in order. Topics are not
ordered between each other: a service that listens to several must not care which speaks first.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from torpor import Event

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^/\x00-\x1f\x7f]+$")]
Cents = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Units = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Line(BaseModel):
    """So many units of one SKU."""

    model_config = ConfigDict(frozen=True)

    sku: Name
    quantity: int = Field(ge=1)


class OrderPlaced(Event, topic="orders.placed", key="order_id"):
    """A customer asks for goods: no SKU comes twice."""

    order_id: str
    customer_id: Name
    lines: tuple[Line, ...] = Field(min_length=1)


class OrderCancelled(Event, topic="orders.cancelled", key="order_id"):
    """The order has ended, and all that was taken for it has been given back."""

    order_id: str
    customer_id: Name
    reason: str


class SkuListed(Event, topic="inventory.listed", key="sku"):
    """A SKU is for sale, at this price."""

    sku: Name
    price_cents: Cents


class StockReserved(Event, topic="inventory.reserved", key="order_id"):
    """All lines are set aside, at the prices of this moment."""

    order_id: str
    customer_id: Name
    total_cents: int
    lines: tuple[Line, ...]


class StockRefused(Event, topic="inventory.refused", key="order_id"):
    """A line cannot be had, so none was set aside."""

    order_id: str
    reason: str


class StockReleased(Event, topic="inventory.released", key="order_id"):
    """What was set aside is for sale again, because a later step refused."""

    order_id: str
    total_cents: int
    reason: str


class StockShipped(Event, topic="inventory.shipped", key="order_id"):
    """What was set aside has left the warehouse's books."""

    order_id: str
    total_cents: int


class PaymentTaken(Event, topic="payments.taken", key="order_id"):
    """The customer has paid the total."""

    order_id: str
    customer_id: Name
    total_cents: int
    lines: tuple[Line, ...]


class PaymentRefused(Event, topic="payments.refused", key="order_id"):
    """The customer cannot pay; nothing was taken."""

    order_id: str
    reason: str


class PaymentRefunded(Event, topic="payments.refunded", key="order_id"):
    """The customer has the money back, because a later step refused."""

    order_id: str
    reason: str


class OrderShipped(Event, topic="shipping.shipped", key="order_id"):
    """The carrier has the goods."""

    order_id: str
    customer_id: Name


class ShipmentRefused(Event, topic="shipping.refused", key="order_id"):
    """No carrier takes the goods."""

    order_id: str
    reason: str
