"""Batch handlers: a list of events in one transaction, partial failures, and bisection."""

from collections.abc import Callable
from typing import Any

import pytest

from torpor import Batch, ConfigurationError, Event, Failed, Message, Retry, Service, Tx
from torpor.runtime.binding import bind
from torpor.testing import TestShop


class Seen(Event, topic="seen", key="key"):
    key: str
    number: int


class Summed(Event, topic="summed"):
    count: int


TABLE = {"0001_seen.sql": "CREATE TABLE seen (key text, number integer NOT NULL CHECK (number <> 13));"}


def counting(calls: list[list[int]], *, batch: Batch, retry: Retry | None = None, failing: Any = None) -> Service:
    """A service whose batch handler stores what it takes, and names as failed what `failing` says."""
    service = Service("counting", migrations=TABLE)

    @service.on(Seen, batch=batch, retry=retry)
    async def store(events: list[Seen], tx: Tx) -> Summed | Failed:
        calls.append([event.number for event in events])
        failed = [event for event in events if failing is not None and failing(event.number)]
        for event in events:
            if event not in failed:
                tx.write("INSERT INTO seen (key, number) VALUES ($1, $2)", event.key, event.number)
        return Failed(failed, "not now") if failed else Summed(count=len(events))

    @service.get("/seen")
    async def seen(tx: Tx) -> list[int]:
        return [row["number"] for row in await tx.fetch("SELECT number FROM seen ORDER BY rowid")]

    return service


async def publish(shop: TestShop, *numbers: int, key: Callable[[int], str] = str) -> None:
    for number in numbers:
        await shop.publish(Seen(key=key(number), number=number))
    await shop.settle()


async def test_a_batch_is_handed_over_whole() -> None:
    """All that comes within the window is one call and one commit, in order; what it returns is published."""
    calls: list[list[int]] = []
    async with TestShop(counting(calls, batch=Batch(100, window=1))) as shop:
        for number in range(10):
            await shop.publish(Seen(key=str(number), number=number))
        await shop.advance(1)
        assert calls == [list(range(10))]
        assert (await shop.get("/seen")).json() == list(range(10))
        assert shop.published(Summed) == [Summed(count=10)]


async def test_a_batch_has_at_most_its_size() -> None:
    """More than the size is handed over in several calls, each message once."""
    calls: list[list[int]] = []
    async with TestShop(counting(calls, batch=Batch(4, window=1))) as shop:
        for number in range(10):
            await shop.publish(Seen(key=str(number), number=number))
        await shop.advance(5)
        assert max(len(call) for call in calls) <= 4
        assert [number for call in calls for number in call] == list(range(10))


async def test_a_failing_batch_is_halved_down_to_the_message_that_fails() -> None:
    """The database refuses one row: all the others are stored once, and the one is parked."""
    calls: list[list[int]] = []
    async with TestShop(counting(calls, batch=Batch(100, window=1), retry=Retry(attempts=2))) as shop:
        for number in range(16):
            await shop.publish(Seen(key=str(number), number=number))
        await shop.advance(1)
        assert (await shop.get("/seen")).json() == [number for number in range(16) if number != 13]
        (row,) = await shop.parked()
        assert (row.message.key, row.attempts) == ("13", 2)
        assert calls.count([13]) == 2


async def test_named_failures_spare_the_others() -> None:
    """What the handler names is tried again by its policy, then parked; the rest keeps its effects at once."""
    calls: list[list[int]] = []
    service = counting(calls, batch=Batch(100), retry=Retry(attempts=2), failing=lambda number: number in (2, 5))
    async with TestShop(service) as shop:
        await publish(shop, *range(8))
        assert sorted((await shop.get("/seen")).json()) == [0, 1, 3, 4, 6, 7]
        rows = await shop.parked()
        assert [(row.message.key, row.reason, row.attempts, row.state) for row in rows] == [
            ("2", "not now", 2, "parked"),
            ("5", "not now", 2, "parked"),
        ]


async def test_what_follows_a_named_failure_waits_behind_it() -> None:
    """Later messages of a failed key, in the batch or after it, wait in order."""
    calls: list[list[int]] = []
    service = counting(calls, batch=Batch(100), retry=Retry(attempts=1), failing=lambda number: number == 1)
    async with TestShop(service) as shop:
        await publish(shop, 1, key=lambda _: "a")
        await publish(shop, 2, 3, key=lambda _: "a")
        assert [row.state for row in await shop.parked()] == ["parked", "waiting", "waiting"]
        assert (await shop.get("/seen")).json() == []


async def test_what_was_handled_behind_a_named_failure_is_taken_back() -> None:
    """When the batch holds later messages of the failed key, these wait too; those of other keys keep their effects."""
    calls: list[list[int]] = []
    service = counting(calls, batch=Batch(100, window=1), retry=Retry(attempts=1), failing=lambda number: number == 2)
    async with TestShop(service) as shop:
        for number in range(6):
            await shop.publish(Seen(key="odd" if number % 2 else "even", number=number))
        await shop.advance(1)
        assert calls[0] == list(range(6))
        assert [(row.message.key, row.state) for row in await shop.parked()] == [
            ("even", "parked"),
            ("even", "waiting"),
        ]
        assert sorted((await shop.get("/seen")).json()) == [0, 1, 3, 5]


async def test_undecodable_bytes_leave_a_batch() -> None:
    """Bytes that are no event are parked, and the handler sees only the others."""
    calls: list[list[int]] = []
    async with TestShop(counting(calls, batch=Batch(10, window=1))) as shop:
        await shop.publish(Message("seen", b"?", id="x", type="seen", key="x"))
        await shop.publish(Seen(key="1", number=1))
        await shop.advance(1)
        assert calls == [[1]]
        assert len(await shop.parked()) == 1


async def test_what_follows_undecodable_bytes_in_a_batch_waits_behind_them() -> None:
    """Later messages of their key, in the same batch, are set aside in order."""
    calls: list[list[int]] = []
    async with TestShop(counting(calls, batch=Batch(10, window=1))) as shop:
        await shop.publish(Message("seen", b"?", id="x", type="seen", key="1"))
        for number in (1, 2):
            await shop.publish(Seen(key=str(number), number=number))
        await shop.advance(1)
        assert calls == [[2]]
        assert [row.state for row in await shop.parked()] == ["parked", "waiting"]


async def test_a_stranger_among_the_failed_is_told() -> None:
    """Naming an event that was not handed over fails the message with what to do."""
    service = Service("odd")

    @service.on(Seen, batch=Batch(10), retry=Retry(attempts=1))
    async def odd(events: list[Seen]) -> Failed:
        return Failed([Seen(key="?", number=0)], "who is this")

    async with TestShop(service) as shop:
        await publish(shop, 1)
        assert "not handed over" in (await shop.parked())[0].reason


def test_a_batch_handler_is_checked() -> None:
    """It takes a list of its event, and only it may return Failed; sizes and windows make sense."""
    service = Service("odd")

    @service.on(Seen, batch=Batch(10))
    async def single(event: Seen) -> None: ...

    @service.on(Seen, group="other")
    async def failing(event: Seen) -> Failed:
        return Failed([], "")

    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    assert "Expected list[Seen], Tx" in str(caught.value)
    assert "returns 'Failed', which is no event" in str(caught.value)
    with pytest.raises(ConfigurationError, match="size from 1"):
        Batch(0)
    with pytest.raises(ConfigurationError, match="0 or more"):
        Batch(1, window=-1)
