"""Customers are told what happens to their orders."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from notifications.service import notifications
from shop_events import Line, OrderCancelled, OrderPlaced, OrderShipped
from torpor import Event
from torpor.testing import TestShop


@pytest.fixture
async def shop() -> AsyncIterator[TestShop]:
    """The notifications service alone."""
    async with TestShop(notifications) as shop:
        yield shop


async def hear(shop: TestShop, *events: Event) -> None:
    """Lets each event be handled before the next is published."""
    for event in events:
        await shop.publish(event)
        await shop.settle()


async def test_a_customer_is_told_each_thing_once(shop: TestShop) -> None:
    """Each event about an order is one message, however often it is told."""
    placed = OrderPlaced(order_id="1", customer_id="ada", lines=(Line(sku="tea", quantity=1),))
    shipped = OrderShipped(order_id="1", customer_id="ada")
    await hear(shop, placed, shipped, shipped)
    mailbox = (await shop.get("/notifications/ada")).json()
    assert sorted(mailbox["items"], key=lambda message: message["kind"]) == [
        {"order_id": "1", "kind": "placed", "text": "Thank you. Your order 1 is in our books."},
        {"order_id": "1", "kind": "shipped", "text": "Your order 1 is on its way."},
    ]


async def test_a_cancellation_says_why(shop: TestShop) -> None:
    """The message holds the reason."""
    await hear(shop, OrderCancelled(order_id="1", customer_id="ada", reason="balance too low"))
    (told,) = (await shop.get("/notifications/ada")).json()["items"]
    assert told["text"] == "Your order 1 is cancelled: balance too low."


async def test_a_customer_who_was_told_nothing_has_an_empty_mailbox(shop: TestShop) -> None:
    """A customer that this service never heard of is no error."""
    response = await shop.get("/notifications/eve")
    assert (response.status_code, response.json()) == (200, {"items": [], "next": None})
