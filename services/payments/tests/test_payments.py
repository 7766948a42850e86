"""Money is taken once, and comes back exactly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from payments.service import payments
from shop_events import Line, PaymentRefunded, PaymentRefused, PaymentTaken, ShipmentRefused, StockReserved
from torpor import Event
from torpor.testing import TestShop

LINES = (Line(sku="tea", quantity=2),)


@pytest.fixture
async def shop() -> AsyncIterator[TestShop]:
    """The payments service alone, where ada has 10.00."""
    async with TestShop(payments) as shop:
        await shop.put("/payments/accounts/ada", json={"balance_cents": 1000})
        yield shop


def reserved(order_id: str, cents: int, customer_id: str = "ada") -> StockReserved:
    """Stock that waits to be paid."""
    return StockReserved(order_id=order_id, customer_id=customer_id, total_cents=cents, lines=LINES)


async def hear(shop: TestShop, *events: Event) -> None:
    """Lets each event be handled before the next is published."""
    for event in events:
        await shop.publish(event)
        await shop.settle()


async def account(shop: TestShop) -> tuple[int, int]:
    """Ada's balance, and what was taken from her."""
    shown = (await shop.get("/payments/accounts/ada")).json()
    return shown["balance_cents"], shown["taken_cents"]


async def test_an_account_is_opened_and_shown(shop: TestShop) -> None:
    """A PUT answers with the account, as a GET does."""
    response = await shop.put("/payments/accounts/bob", json={"balance_cents": 5})
    assert response.status_code == 200
    assert response.json() == {"customer_id": "bob", "balance_cents": 5, "taken_cents": 0}
    assert (await shop.get("/payments/accounts/bob")).json() == response.json()


@pytest.mark.parametrize("body", [{}, {"balance_cents": -1}, {"balance_cents": "much"}, {"balance_cents": 0.5}])
async def test_a_malformed_balance_is_refused(shop: TestShop, body: dict[str, Any]) -> None:
    """A missing, negative or broken number is answered 422 and changes nothing."""
    assert (await shop.put("/payments/accounts/ada", json=body)).status_code == 422
    assert await account(shop) == (1000, 0)


async def test_an_unknown_account_is_not_found(shop: TestShop) -> None:
    """A customer without an account is answered 404, by name."""
    response = await shop.get("/payments/accounts/eve")
    assert response.status_code == 404
    assert "'eve'" in response.json()["detail"]


async def test_the_total_is_taken(shop: TestShop) -> None:
    """Money moves from the balance to what is taken, and shipping hears what to send."""
    await hear(shop, reserved("1", 900))
    assert await account(shop) == (100, 900)
    assert shop.published(PaymentTaken) == [PaymentTaken(order_id="1", customer_id="ada", total_cents=900, lines=LINES)]


async def test_a_low_balance_refuses_and_takes_nothing(shop: TestShop) -> None:
    """An order is paid whole or not at all, and the reason says what is short."""
    await hear(shop, reserved("1", 1001))
    assert await account(shop) == (1000, 0)
    assert shop.published(PaymentRefused) == [
        PaymentRefused(order_id="1", reason="balance too low: 1001 cents asked for, 1000 there")
    ]


async def test_a_customer_without_an_account_is_refused(shop: TestShop) -> None:
    """Who has no account cannot pay."""
    await hear(shop, reserved("1", 1, "eve"))
    assert shop.published(PaymentRefused) == [PaymentRefused(order_id="1", reason="customer 'eve' has no account")]


async def test_orders_that_come_together_spend_no_more_than_there_is(shop: TestShop) -> None:
    """The balance never goes below zero."""
    for number in range(5):
        await shop.publish(reserved(str(number), 300))
    await shop.settle()
    assert await account(shop) == (100, 900)
    assert (len(shop.published(PaymentTaken)), len(shop.published(PaymentRefused))) == (3, 2)


async def test_an_order_is_charged_once(shop: TestShop) -> None:
    """Stock that is told twice is paid once; a refused order is not charged later either."""
    await hear(shop, reserved("1", 300), reserved("1", 300), reserved("2", 5000))
    await shop.put("/payments/accounts/ada", json={"balance_cents": 9000})
    await hear(shop, reserved("2", 5000))
    assert await account(shop) == (9000, 300)


async def test_a_refused_shipment_is_refunded_once(shop: TestShop) -> None:
    """What was taken comes back exactly, with the carrier's reason."""
    await hear(shop, reserved("1", 900), reserved("2", 50))
    refusal = ShipmentRefused(order_id="1", reason="too heavy")
    await hear(shop, refusal, refusal)
    assert await account(shop) == (950, 50)
    assert shop.published(PaymentRefunded) == [PaymentRefunded(order_id="1", reason="too heavy")]


async def test_a_put_leaves_what_was_taken_alone(shop: TestShop) -> None:
    """Setting a balance does not touch what orders have taken."""
    await hear(shop, reserved("1", 900))
    await shop.put("/payments/accounts/ada", json={"balance_cents": 7})
    assert await account(shop) == (7, 900)
