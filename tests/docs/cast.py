"""What the examples of docstrings take for granted: a few contracts, and the services that they speak of."""

from typing import Any

from pydantic import BaseModel

import torpor
from torpor import Event, Service, Tx
from torpor.testing import TestShop


class OrderPlaced(Event, topic="orders.placed", key="order_id"):
    order_id: str
    total_cents: int = 0


class PaymentCaptured(Event, topic="payments.captured", key="order_id"):
    order_id: str
    currency: str = "EUR"


class OrderPaid(Event, topic="orders.paid", key="order_id"):
    order_id: str


class UnknownOrder(LookupError):
    """No such order."""


class NewOrder(BaseModel):
    customer_id: str
    items: list[str]


class Accepted(BaseModel):
    id: str


class Report(BaseModel):
    orders: int


def running_orders() -> Service:
    """A service that answers: for the examples that send it requests."""
    orders = Service("orders")

    @orders.post("/orders", status_code=202)
    async def place(order: NewOrder, tx: Tx) -> Accepted:
        tx.publish(OrderPlaced(order_id=order.customer_id))
        return Accepted(id=order.customer_id)

    return orders


def cast(*, is_running: bool) -> dict[str, Any]:
    """The names of `torpor` and of this module, with services of the example's own."""
    names = {name: getattr(torpor, name) for name in torpor.__all__}
    names |= {name: value for name, value in globals().items() if isinstance(value, type)}
    names["TestShop"] = TestShop
    names["orders"] = running_orders() if is_running else Service("orders")
    names["inventory"] = Service("inventory")
    return names
