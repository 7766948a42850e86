"""Step keys: the same for each attempt of one message, another for all else."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import Batch, Depends, Event, Idempotent, Retry, Service, StepKey, Tx
from torpor.kernel.errors import ConfigurationError
from torpor.testing import TestShop

TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates too
PLACE = st.tuples(TEXT, TEXT, TEXT)


class Placed(Event, topic="orders.placed", key="order_id"):
    order_id: str


def bank(step_key: StepKey) -> str:
    """A dependency that makes a key."""
    return step_key("charge")


@given(PLACE, PLACE)
def test_a_step_key_tells_apart_whatever_differs(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Handler, message and name each make another key; the same three make the same."""
    keys = [StepKey(binding, origin)(name) for binding, origin, name in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert all(re.fullmatch("[a-z2-7]{32}", key) for key in keys)


def test_a_step_key_stays_as_it_is_from_release_to_release() -> None:
    """The key of a given message is this one, so that a call that was made before an upgrade is known after it."""
    assert StepKey("orders.charge", "0191f0")("charge") == "reci6ymzabdb4ia7t2ifnvcjqvaphkz4"


async def test_each_attempt_and_each_redelivery_has_the_same_key() -> None:
    """Retries, a redelivered message and a redrive ask for the same key; another message or name for another."""
    orders = Service("orders")
    keys: list[str] = []
    is_failing = True

    @orders.on(Placed, retry=Retry(attempts=2))
    async def charge(event: Placed, tx: Tx) -> None:
        keys.append(tx.step_key("charge"))
        assert tx.step_key("charge") == keys[-1]
        assert tx.step_key("refund") != keys[-1]
        if is_failing:
            raise RuntimeError("the bank does not answer")

    async with TestShop(orders) as shop:
        await shop.publish(Placed(order_id="1"), id="m1")
        await shop.settle()
        assert len(keys) >= 2
        is_failing = False
        await shop.redrive("orders.charge")
        assert len(set(keys)) == 1
        await shop.publish(Placed(order_id="2"), id="m2")
        await shop.settle()
        assert len(set(keys)) == 2


async def test_a_handler_without_a_transaction_asks_by_type() -> None:
    """`StepKey` fills a parameter of a handler, of its dependencies and of a ticker, with no Tx in sight."""
    orders = Service("orders")
    found: dict[str, str] = {}

    @orders.on(Placed)
    async def charge(event: Placed, step_key: StepKey, bank: Annotated[str, Depends(bank)]) -> None:
        found["handler"], found["dependency"] = step_key("charge"), bank

    @orders.every(60)
    async def tick(step_key: StepKey) -> None:
        found["tick"] = step_key("charge")

    async with TestShop(orders) as shop:
        await shop.publish(Placed(order_id="1"), id="m1")
        await shop.settle()
        await shop.advance(60)
    assert found["handler"] == found["dependency"] == StepKey("orders.charge", "m1")("charge")
    assert found["tick"] not in ("", found["handler"])


async def test_in_a_route_the_key_comes_from_the_request() -> None:
    """The same Idempotency-Key gives the same step key when the first try failed; another gives another."""
    orders = Service("orders")
    keys: list[str] = []

    @orders.post("/charge", idempotency=Idempotent(required=True))
    async def charge(tx: Tx, step_key: StepKey) -> None:
        assert step_key("charge") == tx.step_key("charge")
        keys.append(step_key("charge"))
        if len(keys) == 1:
            raise RuntimeError("the bank does not answer")

    async with TestShop(orders) as shop:
        with pytest.raises(RuntimeError, match="the bank"):
            await shop.post("/charge", headers={"Idempotency-Key": "a"})
        assert (await shop.post("/charge", headers={"Idempotency-Key": "a"})).status_code == 200
        assert (await shop.post("/charge", headers={"Idempotency-Key": "b"})).status_code == 200
    assert keys[0] == keys[1] != keys[2]


async def test_where_nothing_stays_the_same_the_mistake_is_told() -> None:
    """A route without a key, and a batch, have nothing to make a step key of, and the error says what to do."""
    orders = Service("orders")
    told: list[str] = []

    @orders.post("/charge")
    async def charge(tx: Tx) -> None:
        tx.step_key("charge")

    @orders.on(Placed, batch=Batch(10))
    async def charge_all(events: list[Placed], tx: Tx) -> None:
        try:
            tx.step_key("charge")
        except ConfigurationError as error:
            told.append(str(error))

    async with TestShop(orders) as shop:
        with pytest.raises(ConfigurationError, match=r"idempotency=Idempotent\(required=True\)"):
            await shop.post("/charge")
        await shop.publish(Placed(order_id="1"))
        await shop.settle()
    assert "batch handler" in told[0]
