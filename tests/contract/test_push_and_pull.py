"""Push and pull: the same sequence of messages has the same effects, faults included."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torpor import Batch, Event, Failed, Message, Order, Park, Retry, Service, Tx
from torpor.contract.codec import encode
from torpor.kernel import cloudevents
from torpor.kernel.cloudevents import structured
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = {"0001_seen.sql": "CREATE TABLE seen (handler text, key text, number integer);"}
INSERT = "INSERT INTO seen VALUES ($1, $2, $3)"


class Came(Event, topic="came", key="key"):
    key: str
    number: int


class Went(Event, topic="went", key="key"):
    key: str
    number: int


class Refused(Exception):
    """What a handler raises."""


def service() -> Service:
    """Handlers of every kind. A number's remainders say who fails for it, and how often."""
    made = Service("both", migrations=TABLE)
    tries: dict[tuple[str, int], int] = defaultdict(int)

    def fail(handler: str, number: int, failures: int) -> None:
        tries[handler, number] += 1
        if tries[handler, number] <= failures:
            raise Refused(number)

    @made.on(Came, retry=Retry(attempts=2))
    async def keyed(event: Came, tx: Tx) -> Went | Park:
        await tx.execute(INSERT, "keyed", event.key, event.number)
        fail("keyed", event.number, {0: 9, 1: 1}.get(event.number % 7, 0))
        return Park("as asked") if event.number % 7 == 2 else Went(key=event.key, number=event.number)

    @made.on(Came, group="apart", retry=Retry(attempts=1, later=[5]))
    async def apart(event: Came) -> Went:
        fail("apart", event.number, {0: 9, 3: 1}.get(event.number % 5, 0))
        return Went(key=event.key, number=-event.number)

    @made.on(Came, group="strict", order=Order.STRICT, retry=Retry(attempts=1))
    async def strict(event: Came, tx: Tx) -> None:
        tx.write(INSERT, "strict", event.key, event.number)
        fail("strict", event.number, 9 if event.number % 11 == 0 else 0)

    @made.on(Came, group="batch", batch=Batch(4), retry=Retry(attempts=1))
    async def several(events: list[Came], tx: Tx) -> Failed | None:
        named = [event for event in events if event.number % 3 == 0]
        for event in events:
            if event not in named:
                tx.write(INSERT, "several", event.key, event.number)
        return Failed(named, "not this one") if named else None

    return made


HANDLERS = ("keyed", "apart", "strict", "several")


class Arrival:
    """One message of a sequence; its id is its number, so that one that comes again is a duplicate."""

    def __init__(self, number: int, key: str, *, is_broken: bool) -> None:
        made = encode(Came(key=key, number=number), id=f"id-{number}", key=None, attributes={"source": "test"})
        data = b"{" if is_broken else made.data
        self.message = Message(made.topic, data, id=made.id, type=made.type, key=key, attributes=made.attributes)

    def __repr__(self) -> str:
        return repr(self.message)


arrivals = st.builds(
    Arrival, st.integers(0, 40), st.sampled_from("abc"), is_broken=st.sampled_from([False, False, False, True])
)


async def state(shop: TestShop) -> dict[str, Any]:
    """What the messages have left, in order for each handler and key."""
    (host,) = shop.hosts
    async with host.store.unit() as unit:
        rows = await unit.statements.fetch("SELECT handler, key, number FROM seen ORDER BY rowid", ())
    effects: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        effects[row["handler"], row["key"]].append(row["number"])
    published: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for event in shop.published(Went):
        published[event.key, event.number > 0].append(event.number)
    parked = sorted((row.binding, row.message.id, row.state, row.attempts, row.reason) for row in await shop.parked())
    return {"effects": dict(effects), "published": dict(published), "parked": parked}


async def pull(sequence: Sequence[Arrival]) -> dict[str, Any]:
    async with TestShop(service()) as shop:
        shop.hub.deduplicates = False
        for arrival in sequence:
            await shop.publish(arrival.message)
            await shop.settle()
        await shop.advance(30)
        return await state(shop)


async def push(sequence: Sequence[Arrival], *, is_structured: bool = False) -> dict[str, Any]:
    async with TestShop(service(), delivery="push") as shop:
        for arrival in sequence:
            message = arrival.message
            headers, body = cloudevents.encode(message, cloudevents.HTTP), message.data
            if is_structured:
                headers, body = {"content-type": structured.EVENT}, structured.encode(message)
            for name in HANDLERS:
                answer = await shop.post(f"/-/events/both.{name}", headers=headers, content=body)
                assert answer.status_code == 204, answer.text
            await shop.settle()
        await shop.advance(30)
        return await state(shop)


@given(sequence=st.lists(arrivals, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.anyio
async def test_push_does_what_pull_does(sequence: list[Arrival]) -> None:
    """Effects, published events and parked rows are the same, in the same order, with the same reasons."""
    assert await push(sequence) == await pull(sequence)


async def test_a_structured_push_does_what_a_binary_one_does() -> None:
    """The mode of the CloudEvent changes nothing."""
    sequence = [Arrival(number, "ab"[number % 2], is_broken=False) for number in (1, 2, 3, 7, 1, 8, 22)]
    assert await push(sequence, is_structured=True) == await push(sequence)
