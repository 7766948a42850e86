"""Stock is set aside all or nothing, and comes back exactly."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from inventory.service import inventory
from shop_events import (
    Line,
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
from torpor import Event
from torpor.testing import TestShop


@pytest.fixture
async def shop() -> AsyncIterator[TestShop]:
    """The inventory service alone, with 10 units of tea at 4.50 and 1 pot at 29.00."""
    async with TestShop(inventory) as shop:
        await shop.put("/inventory/tea", json={"available": 10, "price_cents": 450})
        await shop.put("/inventory/pot", json={"available": 1, "price_cents": 2900})
        yield shop


def placed(order_id: str, **quantities: int) -> OrderPlaced:
    """An order of some units of some SKUs."""
    lines = tuple(Line(sku=sku, quantity=quantity) for sku, quantity in quantities.items())
    return OrderPlaced(order_id=order_id, customer_id="ada", lines=lines)


async def hear(shop: TestShop, *events: Event) -> None:
    """Lets each event be handled before the next is published."""
    for event in events:
        await shop.publish(event)
        await shop.settle()


async def stock(shop: TestShop, sku: str) -> tuple[int, int, int]:
    """Units available, reserved and shipped."""
    shown = (await shop.get(f"/inventory/{sku}")).json()
    return shown["available"], shown["reserved"], shown["shipped"]


async def test_stock_is_set_and_listed(shop: TestShop) -> None:
    """A PUT answers with the stock as it is now, and tells that the SKU is for sale."""
    response = await shop.put("/inventory/tea", json={"available": 3, "price_cents": 500})
    assert response.status_code == 200
    assert response.json() == {"sku": "tea", "available": 3, "reserved": 0, "shipped": 0, "price_cents": 500}
    await shop.settle()
    assert shop.published(SkuListed)[-1] == SkuListed(sku="tea", price_cents=500)


@pytest.mark.parametrize("body", [{}, {"available": -1, "price_cents": 1}, {"available": 1, "price_cents": -1}])
async def test_a_malformed_stock_is_refused(shop: TestShop, body: dict[str, int]) -> None:
    """Negative or missing numbers are answered 422 and change nothing."""
    assert (await shop.put("/inventory/tea", json=body)).status_code == 422
    assert await stock(shop, "tea") == (10, 0, 0)


async def test_an_unknown_sku_is_not_found(shop: TestShop) -> None:
    """A SKU that was never put is answered 404, naming it."""
    response = await shop.get("/inventory/gold")
    assert response.status_code == 404
    assert "'gold'" in response.json()["detail"]


async def test_all_lines_are_reserved_at_the_prices_of_the_moment(shop: TestShop) -> None:
    """What is there is set aside, and the total is told."""
    await hear(shop, placed("1", tea=2, pot=1))
    assert await stock(shop, "tea") == (8, 2, 0)
    assert await stock(shop, "pot") == (0, 1, 0)
    (reserved,) = shop.published(StockReserved)
    assert (reserved.order_id, reserved.customer_id, reserved.total_cents) == ("1", "ada", 3800)


async def test_one_missing_line_reserves_none(shop: TestShop) -> None:
    """An order that cannot be had whole takes nothing, and the reason says what is short."""
    await hear(shop, placed("1", tea=2, pot=2))
    assert await stock(shop, "tea") == (10, 0, 0)
    (refused,) = shop.published(StockRefused)
    assert refused.reason == "out of stock: 2 of 'pot' asked for, 1 there"


async def test_an_order_of_an_unknown_sku_is_refused(shop: TestShop) -> None:
    """Inventory has the last word on what exists."""
    await hear(shop, placed("1", gold=1))
    assert shop.published(StockRefused) == [StockRefused(order_id="1", reason="unknown SKU 'gold'")]


async def test_the_last_unit_goes_to_one_order(shop: TestShop) -> None:
    """Orders that come together share what is there, and no more."""
    for number in range(4):
        await shop.publish(placed(str(number), tea=3))
    await shop.settle()
    assert len(shop.published(StockReserved)) == 3
    assert len(shop.published(StockRefused)) == 1


async def test_shipping_writes_off_what_the_order_held(shop: TestShop) -> None:
    """Reserved units become shipped, once."""
    await hear(shop, placed("1", tea=2), placed("2", tea=3))
    shipped = OrderShipped(order_id="1", customer_id="ada")
    await hear(shop, shipped, shipped)
    assert await stock(shop, "tea") == (5, 3, 2)
    assert shop.published(StockShipped) == [StockShipped(order_id="1", total_cents=900)]


@pytest.mark.parametrize("refusal", [PaymentRefused, PaymentRefunded])
async def test_a_refusal_gives_back_what_the_order_held(
    shop: TestShop, refusal: type[PaymentRefused | PaymentRefunded]
) -> None:
    """Reserved units are available again, once, whichever step refused."""
    await hear(shop, placed("1", tea=2, pot=1), placed("2", tea=3))
    refused = refusal(order_id="1", reason="no")
    await hear(shop, refused, refused)
    assert await stock(shop, "tea") == (7, 3, 0)
    assert await stock(shop, "pot") == (1, 0, 0)
    assert shop.published(StockReleased) == [StockReleased(order_id="1", total_cents=3800, reason="no")]


async def test_an_order_is_reserved_once(shop: TestShop) -> None:
    """An order that is told twice, even after its release, holds nothing twice."""
    await hear(shop, placed("1", tea=2), placed("1", tea=2))
    assert await stock(shop, "tea") == (8, 2, 0)
    await hear(shop, PaymentRefused(order_id="1", reason="no"), placed("1", tea=2))
    assert await stock(shop, "tea") == (10, 0, 0)
    assert len(shop.published(StockReserved)) == 1


async def test_a_put_leaves_reserved_and_shipped_alone(shop: TestShop) -> None:
    """Setting what is for sale does not touch what orders hold or have had."""
    await hear(shop, placed("1", tea=2), placed("2", tea=3), OrderShipped(order_id="1", customer_id="ada"))
    await shop.put("/inventory/tea", json={"available": 100, "price_cents": 1})
    assert await stock(shop, "tea") == (100, 3, 2)
    await hear(shop, OrderShipped(order_id="2", customer_id="ada"))
    assert shop.published(StockShipped)[-1] == StockShipped(order_id="2", total_cents=1350)
