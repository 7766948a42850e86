"""Orders at the door, and orders that hear from the other services."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orders.models import Order
from orders.service import orders
from shop_events import (
    Line,
    OrderCancelled,
    OrderPlaced,
    PaymentTaken,
    SkuListed,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)
from torpor import Event
from torpor.testing import TestShop

TEA = {"sku": "tea", "quantity": 2}


@pytest.fixture
async def shop() -> AsyncIterator[TestShop]:
    """The orders service alone, which has heard of tea and of pots."""
    async with TestShop(orders) as shop:
        await shop.publish(SkuListed(sku="tea", price_cents=450))
        await shop.publish(SkuListed(sku="pot", price_cents=2900))
        await shop.settle()
        yield shop


async def place(shop: TestShop, customer_id: str = "ada", *items: dict[str, Any]) -> str:
    """Places an order and returns its id."""
    response = await shop.post("/orders", json={"customer_id": customer_id, "items": list(items) or [TEA]})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def hear(shop: TestShop, *events: Event) -> None:
    """Lets each event be handled before the next is published."""
    for event in events:
        await shop.publish(event)
        await shop.settle()


async def test_an_order_is_accepted_shown_and_told(shop: TestShop) -> None:
    """A good order is answered 202, can be read at once, and is published."""
    response = await shop.post("/orders", json={"customer_id": "ada", "items": [TEA]})
    assert response.status_code == 202
    order_id = response.json()["id"]
    assert response.json() == {"id": order_id, "status": "placed"}
    assert (await shop.get(f"/orders/{order_id}")).json() == {
        "id": order_id,
        "customer_id": "ada",
        "status": "placed",
        "total_cents": 0,
        "items": [TEA],
        "reason": None,
    }
    await shop.settle()
    assert shop.published(OrderPlaced) == [
        OrderPlaced(order_id=order_id, customer_id="ada", lines=(Line(sku="tea", quantity=2),))
    ]


async def test_lines_of_one_sku_are_added_up(shop: TestShop) -> None:
    """An order that names a SKU twice holds one line with both quantities."""
    order_id = await place(shop, "ada", TEA, {"sku": "pot", "quantity": 1}, TEA)
    shown = (await shop.get(f"/orders/{order_id}")).json()
    assert shown["items"] == [{"sku": "tea", "quantity": 4}, {"sku": "pot", "quantity": 1}]


async def test_an_unknown_sku_is_refused_by_name(shop: TestShop) -> None:
    """A SKU that was never listed is answered 422, naming it, and nothing is placed."""
    response = await shop.post("/orders", json={"customer_id": "ada", "items": [TEA, {"sku": "gold", "quantity": 1}]})
    assert response.status_code == 422
    assert [mistake["input"] for mistake in response.json()["detail"]] == ["gold"]
    await shop.settle()
    assert shop.published(OrderPlaced) == []
    assert (await shop.get("/orders")).json()["items"] == []


async def test_a_sku_that_is_listed_meanwhile_can_be_ordered(shop: TestShop) -> None:
    """An order that comes before the news of its SKU waits for it a moment."""
    order = asyncio.create_task(place(shop, "ada", {"sku": "new", "quantity": 1}))
    await asyncio.sleep(0)
    await shop.publish(SkuListed(sku="new", price_cents=1))
    await order
    await shop.settle()
    assert len(shop.published(OrderPlaced)) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"customer_id": "ada"},
        {"customer_id": "ada", "items": []},
        {"customer_id": "", "items": [TEA]},
        {"customer_id": "a\0a", "items": [TEA]},
        {"customer_id": "a" * 101, "items": [TEA]},
        {"customer_id": "ada", "items": [{"sku": "tea"}]},
        {"customer_id": "ada", "items": [{"sku": "", "quantity": 1}]},
        {"customer_id": "ada", "items": [{"sku": "tea", "quantity": 0}]},
        {"customer_id": "ada", "items": [{"sku": "tea", "quantity": -1}]},
        {"customer_id": "ada", "items": [{"sku": "tea", "quantity": 1.5}]},
        {"customer_id": "ada", "items": [{"sku": "tea", "quantity": 1001}]},
        {"customer_id": "ada", "items": [TEA] * 101},
    ],
)
async def test_a_malformed_order_is_refused(shop: TestShop, body: dict[str, Any]) -> None:
    """A body that breaks a rule is answered 422 in FastAPI's form."""
    response = await shop.post("/orders", json=body)
    assert response.status_code == 422
    assert all({"loc", "msg", "type"} <= mistake.keys() for mistake in response.json()["detail"])


async def test_an_unknown_order_is_not_found(shop: TestShop) -> None:
    """An id that is in no book is answered 404, naming it."""
    response = await shop.get("/orders/nope")
    assert response.status_code == 404
    assert "'nope'" in response.json()["detail"]


@pytest.mark.parametrize("turns", list(itertools.permutations(range(3))))
async def test_news_in_any_order_ends_shipped(shop: TestShop, turns: tuple[int, ...]) -> None:
    """Topics are not ordered between each other, and yet a shipped order stays shipped, with its total."""
    order_id = await place(shop)
    lines = (Line(sku="tea", quantity=2),)
    news: list[Event] = [
        StockReserved(order_id=order_id, customer_id="ada", total_cents=900, lines=lines),
        PaymentTaken(order_id=order_id, customer_id="ada", total_cents=900, lines=lines),
        StockShipped(order_id=order_id, total_cents=900),
    ]
    await hear(shop, *(news[turn] for turn in turns))
    shown = (await shop.get(f"/orders/{order_id}")).json()
    assert (shown["status"], shown["total_cents"], shown["reason"]) == ("shipped", 900, None)


@pytest.mark.parametrize("turns", list(itertools.permutations(range(3))))
async def test_news_in_any_order_ends_cancelled(shop: TestShop, turns: tuple[int, ...]) -> None:
    """An order whose stock was released is cancelled, whatever is heard late."""
    order_id = await place(shop)
    lines = (Line(sku="tea", quantity=2),)
    news: list[Event] = [
        StockReserved(order_id=order_id, customer_id="ada", total_cents=900, lines=lines),
        PaymentTaken(order_id=order_id, customer_id="ada", total_cents=900, lines=lines),
        StockReleased(order_id=order_id, total_cents=900, reason="too heavy"),
    ]
    await hear(shop, *(news[turn] for turn in turns))
    shown = (await shop.get(f"/orders/{order_id}")).json()
    assert (shown["status"], shown["total_cents"], shown["reason"]) == ("cancelled", 900, "too heavy")


async def test_a_cancellation_is_told_once(shop: TestShop) -> None:
    """A refusal that is heard twice cancels the order once."""
    order_id = await place(shop)
    refusal = StockRefused(order_id=order_id, reason="out of stock")
    await hear(shop, refusal, refusal)
    assert shop.published(OrderCancelled) == [
        OrderCancelled(order_id=order_id, customer_id="ada", reason="out of stock")
    ]


async def test_news_of_an_order_that_is_in_no_book_is_parked(shop: TestShop) -> None:
    """Nothing is dropped in silence: an operator sees what cannot be booked."""
    await hear(shop, StockShipped(order_id="nope", total_cents=1))
    assert len(await shop.parked("orders.mark_shipped")) == 1


async def test_pages_hold_each_order_once_newest_first(shop: TestShop) -> None:
    """Following the links shows every order once; the last page is full, and has none."""
    placed = [await place(shop) for _ in range(6)]
    seen = []
    url: str | None = "/orders?limit=2&customer_id=ada"
    while url:
        page = await shop.get(url)
        assert len(page.json()["items"]) == 2
        seen += [order["id"] for order in page.json()["items"]]
        url = page.links.get("next", {}).get("url")
    assert seen == sorted(placed, reverse=True)


async def test_orders_are_listed_by_customer_and_status(shop: TestShop) -> None:
    """The filters hold together."""
    first, second = await place(shop, "ada"), await place(shop, "ada")
    await place(shop, "bob")
    await hear(shop, StockRefused(order_id=first, reason="out of stock"))
    listed = (await shop.get("/orders?customer_id=ada&status=placed")).json()
    assert [order["id"] for order in listed["items"]] == [second]
    assert (await shop.get("/orders?customer_id=eve")).json() == {"items": [], "next": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=lost", "cursor=yesterday"])
async def test_a_malformed_query_is_refused(shop: TestShop, query: str) -> None:
    """A filter that breaks a rule is answered 422."""
    assert (await shop.get(f"/orders?{query}")).status_code == 422


def test_an_order_never_goes_back() -> None:
    """Advancing moves forward only, and a final state is final."""
    order = Order(id="1", customer_id="ada", items=[])
    assert order.advance("paid", 900)
    assert not order.advance("reserved", 900)
    assert order.advance("shipped")
    assert not order.advance("cancelled")
    assert (order.status, order.total_cents) == ("shipped", 900)
