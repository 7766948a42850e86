"""Paid orders go to a carrier, if it takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shipping.service import CARRIER_LIMIT, shipping
from shop_events import Line, OrderShipped, PaymentTaken, ShipmentRefused
from torpor.testing import TestShop


@pytest.fixture
async def shop() -> AsyncIterator[TestShop]:
    """The shipping service alone."""
    async with TestShop(shipping) as shop:
        yield shop


def paid(order_id: str, *quantities: int) -> PaymentTaken:
    """A paid order of some lines."""
    lines = tuple(Line(sku=f"sku-{n}", quantity=quantity) for n, quantity in enumerate(quantities))
    return PaymentTaken(order_id=order_id, customer_id="ada", total_cents=900, lines=lines)


async def test_a_paid_order_is_shipped_once(shop: TestShop) -> None:
    """A payment that is told twice makes one shipment."""
    await shop.publish(paid("1", CARRIER_LIMIT - 1, 1))
    await shop.publish(paid("1", CARRIER_LIMIT - 1, 1))
    await shop.settle()
    assert shop.published(OrderShipped) == [OrderShipped(order_id="1", customer_id="ada")]
    assert (await shop.get("/shipping/1")).json() == {
        "order_id": "1",
        "customer_id": "ada",
        "units": CARRIER_LIMIT,
        "status": "shipped",
        "reason": None,
    }


async def test_a_heavy_order_is_refused(shop: TestShop) -> None:
    """More units than a carrier takes are not shipped, and the reason says so."""
    await shop.publish(paid("1", CARRIER_LIMIT, 1))
    await shop.settle()
    reason = "too heavy: a carrier takes 1000 units, and these are 1001"
    assert shop.published(ShipmentRefused) == [ShipmentRefused(order_id="1", reason=reason)]
    shown = (await shop.get("/shipping/1")).json()
    assert (shown["status"], shown["reason"]) == ("refused", reason)


async def test_an_order_without_a_shipment_is_not_found(shop: TestShop) -> None:
    """An order that is not paid yet, or unknown, is answered 404."""
    response = await shop.get("/shipping/nope")
    assert response.status_code == 404
    assert "'nope'" in response.json()["detail"]
