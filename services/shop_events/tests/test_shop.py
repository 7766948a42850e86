"""The five services together: an order ends shipped or cancelled, and nothing is lost on the way."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inventory.service import inventory
from notifications.service import notifications
from orders.service import orders
from payments.service import payments
from shipping.service import shipping
from shop_events import OrderCancelled, OrderPlaced, OrderShipped, PaymentTaken
from torpor.testing import TestShop

STOCK = {"tea": (5000, 10), "pot": (3, 2900), "cup": (40, 700)}
BALANCES = {"ada": 1_000_000, "bob": 5000, "eve": 0}


@pytest.fixture
async def shop() -> AsyncIterator[TestShop]:
    """All five services, with much tea and few pots, a rich customer and two poor ones."""
    async with TestShop(orders, inventory, payments, shipping, notifications) as shop:
        for sku, (available, price_cents) in STOCK.items():
            await shop.put(f"/inventory/{sku}", json={"available": available, "price_cents": price_cents})
        for customer_id, balance_cents in BALANCES.items():
            await shop.put(f"/payments/accounts/{customer_id}", json={"balance_cents": balance_cents})
        await shop.settle()
        yield shop
        await assert_conserved(shop)


async def place(shop: TestShop, customer_id: str, **quantities: int) -> str:
    """Places an order and returns its id."""
    items = [{"sku": sku, "quantity": quantity} for sku, quantity in quantities.items()]
    response = await shop.post("/orders", json={"customer_id": customer_id, "items": items})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def stock(shop: TestShop, sku: str) -> tuple[int, int, int]:
    """Units available, reserved and shipped."""
    shown = (await shop.get(f"/inventory/{sku}")).json()
    return shown["available"], shown["reserved"], shown["shipped"]


async def account(shop: TestShop, customer_id: str) -> tuple[int, int]:
    """Balance, and what was taken."""
    shown = (await shop.get(f"/payments/accounts/{customer_id}")).json()
    return shown["balance_cents"], shown["taken_cents"]


async def ended(shop: TestShop, order_id: str) -> dict[str, Any]:
    """The order, once nothing is in flight."""
    await shop.settle()
    shown: dict[str, Any] = (await shop.get(f"/orders/{order_id}")).json()
    return shown


async def assert_conserved(shop: TestShop) -> None:
    """Every order has ended, nothing is parked, and stock and money add up to what was put."""
    await shop.settle()
    assert not await shop.parked()
    for status in ("placed", "reserved", "paid"):
        assert (await shop.get(f"/orders?status={status}")).json()["items"] == []
    for sku, (available, _) in STOCK.items():
        left, reserved, shipped = await stock(shop, sku)
        assert (left + shipped, reserved) == (available, 0)
    for customer_id, balance_cents in BALANCES.items():
        assert sum(await account(shop, customer_id)) == balance_cents


async def test_a_good_order_goes_through_all_five(shop: TestShop) -> None:
    """Stock is reserved, money taken, the goods shipped, and the customer told."""
    order = await ended(shop, await place(shop, "ada", tea=2, pot=1))
    assert (order["status"], order["total_cents"], order["reason"]) == ("shipped", 2920, None)
    assert await stock(shop, "pot") == (2, 0, 1)
    assert await account(shop, "ada") == (997_080, 2920)
    assert (await shop.get(f"/shipping/{order['id']}")).json()["status"] == "shipped"
    told = (await shop.get("/notifications/ada")).json()["items"]
    assert sorted(message["kind"] for message in told) == ["placed", "shipped"]


async def test_missing_stock_cancels(shop: TestShop) -> None:
    """Inventory's refusal cancels the order; nobody was charged."""
    order = await ended(shop, await place(shop, "ada", tea=2, pot=4))
    assert (order["status"], order["reason"]) == ("cancelled", "out of stock: 4 of 'pot' asked for, 3 there")
    assert await account(shop, "ada") == (1_000_000, 0)


async def test_missing_money_gives_the_stock_back_and_cancels(shop: TestShop) -> None:
    """The refusal of payments releases what was reserved."""
    order = await ended(shop, await place(shop, "bob", pot=2))
    assert (order["status"], order["total_cents"]) == ("cancelled", 5800)
    assert order["reason"] == "balance too low: 5800 cents asked for, 5000 there"
    assert await stock(shop, "pot") == (3, 0, 0)


async def test_a_customer_without_an_account_gets_nothing(shop: TestShop) -> None:
    """An order of an unknown customer is cancelled, and its stock released."""
    order = await ended(shop, await place(shop, "nobody", pot=2))
    assert (order["status"], order["reason"]) == ("cancelled", "customer 'nobody' has no account")
    assert await stock(shop, "pot") == (3, 0, 0)


async def test_a_refused_shipment_gives_money_and_stock_back_and_cancels(shop: TestShop) -> None:
    """The refusal of shipping refunds what was taken, then releases what was reserved."""
    order = await ended(shop, await place(shop, "ada", tea=1000, cup=1))
    assert (order["status"], order["total_cents"]) == ("cancelled", 10_700)
    assert order["reason"] == "too heavy: a carrier takes 1000 units, and these are 1001"
    assert len(shop.published(PaymentTaken)) == 1
    assert await account(shop, "ada") == (1_000_000, 0)
    assert await stock(shop, "tea") == (5000, 0, 0)
    told = (await shop.get("/notifications/ada")).json()["items"]
    assert sorted(message["kind"] for message in told) == ["cancelled", "placed"]


@pytest.mark.parametrize("id", [None, "the-same"])
async def test_an_event_that_comes_again_has_one_effect(shop: TestShop, id: str | None) -> None:
    """What is told again, as a new message or as the same one redelivered, changes nothing more."""
    order_id = await place(shop, "ada", cup=2)
    await shop.settle()
    for event in (*shop.published(OrderPlaced), *shop.published(PaymentTaken), *shop.published(OrderShipped)):
        await shop.publish(event, id=id and f"{id}-{type(event).__name__}")
        await shop.publish(event, id=id and f"{id}-{type(event).__name__}")
    order = await ended(shop, order_id)
    assert (order["status"], order["total_cents"]) == ("shipped", 1400)
    assert await stock(shop, "cup") == (38, 0, 2)
    assert await account(shop, "ada") == (998_600, 1400)
    assert len((await shop.get("/notifications/ada")).json()["items"]) == 2


@pytest.mark.parametrize("seed", range(5))
async def test_many_orders_at_once_all_end_and_nothing_is_lost(shop: TestShop, seed: int) -> None:
    """Whatever customers ask for together, each order ends, once, and stock and money are conserved."""
    chance = random.Random(seed)
    placed = [
        await place(
            shop,
            chance.choice(list(BALANCES)),
            **{sku: chance.randint(1, 700 if sku == "tea" else 3) for sku in chance.sample(list(STOCK), 2)},
        )
        for _ in range(40)
    ]
    await shop.settle()
    ends = [(await shop.get(f"/orders/{order_id}")).json()["status"] for order_id in placed]
    assert set(ends) == {"shipped", "cancelled"}
    assert ends.count("shipped") == len(shop.published(OrderShipped))
    assert ends.count("cancelled") == len(shop.published(OrderCancelled))
