"""The relay: order, refusals, the lease, and what a clean stop leaves."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from torpor import Event, Message, Service, Tx
from torpor.adapters.memory.broker import MemoryBroker
from torpor.kernel.errors import BrokerUnavailable, Rejected
from torpor.testing import TestShop


class Sent(Event, topic="sent", key="key"):
    key: str
    number: int


def sender() -> Service:
    service = Service("sender")

    @service.post("/sent/{key}/{number}")
    async def send(key: str, number: int, tx: Tx) -> None:
        tx.publish(Sent(key=key, number=number))

    return service


class Picky(MemoryBroker):
    """A broker that is away, or refuses a number, when told to."""

    refused: int | None = None
    is_away = False

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        if self.is_away:
            raise BrokerUnavailable("the broker is away")
        numbers = [Sent.model_validate_json(message.data).number for message in messages]
        first = numbers.index(self.refused) if self.refused in numbers else len(messages)
        refusals = {
            index: Rejected("not this one")
            for index in range(first, len(messages))
            if messages[index].key == messages[first].key
        }
        await super().publish([message for index, message in enumerate(messages) if index not in refusals])
        return refusals


async def opened(shop: TestShop) -> Picky:
    """Puts the picky broker behind the only host of a shop."""
    (host,) = shop.hosts
    broker = Picky(shop.hub)
    await broker.start()
    host.broker = broker
    return broker


async def send(shop: TestShop, key: str, *numbers: int) -> None:
    for number in numbers:
        assert (await shop.post(f"/sent/{key}/{number}")).status_code == 200


def sent(shop: TestShop) -> list[tuple[str, int]]:
    return [(event.key, event.number) for event in shop.published(Sent)]


async def test_messages_are_published_in_the_order_of_their_commits() -> None:
    """What was committed first is published first."""
    async with TestShop(sender()) as shop:
        await send(shop, "a", *range(20))
        await shop.settle()
        assert sent(shop) == [("a", number) for number in range(20)]


async def test_a_broker_that_is_away_loses_nothing() -> None:
    """While the broker is away the outbox keeps the messages; the service says so, and recovers by itself."""
    async with TestShop(sender()) as shop:
        broker = await opened(shop)
        broker.is_away = True
        await send(shop, "a", 1, 2)
        await shop.until(lambda: not shop.hosts[0].is_ready)
        broker.is_away = False
        await shop.clock.advance(10)
        await shop.settle()
        assert sent(shop) == [("a", 1), ("a", 2)]
        assert shop.hosts[0].is_ready


async def test_a_refused_message_parks_its_key_alone() -> None:
    """What the broker refuses is parked; its key's later messages wait behind it, other keys go on."""
    async with TestShop(sender()) as shop:
        broker = await opened(shop)
        broker.refused = 2
        await send(shop, "a", 1, 2, 3)
        await send(shop, "b", 4)
        await shop.settle()
        await send(shop, "a", 5)
        await shop.settle()
        assert sent(shop) == [("a", 1), ("b", 4)]
        assert [row.state for row in await shop.parked("outbox")] == ["parked", "waiting", "waiting"]


async def test_a_redriven_refusal_goes_out_before_what_waits_behind_it() -> None:
    """Redriven and accepted, the refused message is published, then those behind it, in order."""
    async with TestShop(sender()) as shop:
        broker = await opened(shop)
        broker.refused = 1
        await send(shop, "a", 1, 2)
        await shop.settle()
        await send(shop, "a", 3)
        await shop.settle()
        await shop.redrive("outbox")
        assert sent(shop) == []
        assert (await shop.parked("outbox"))[0].state == "parked"
        broker.refused = None
        await shop.redrive("outbox")
        await shop.advance(2)
        assert sent(shop) == [("a", 1), ("a", 2), ("a", 3)]
        await send(shop, "a", 4)
        await shop.settle()
        assert sent(shop)[-1] == ("a", 4)


async def test_one_relay_at_a_time_publishes() -> None:
    """While another holds the lease nothing is published here; when it lets go, this relay takes over."""
    async with TestShop(sender()) as shop:
        (host,) = shop.hosts
        await shop.clock.advance(60)
        await host.store.leases.release("keeper", host.duties[0].lease.holder)  # type: ignore[attr-defined]  # the relay
        await host.store.leases.acquire("keeper", "another", 30)
        await shop.clock.advance(5)
        await send(shop, "a", 1)
        await shop.settle()
        assert sent(shop) == []
        await shop.advance(31)
        assert sent(shop) == [("a", 1)]


class Held(MemoryBroker):
    """A broker that publishes, and confirms only when it is let."""

    confirms: asyncio.Event

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        refusals = await super().publish(messages)
        await self.confirms.wait()
        return refusals


async def test_a_clean_stop_publishes_nothing_twice() -> None:
    """A stop between the broker's confirmation and the cursor's move waits for the move."""
    shop = TestShop(sender())
    shop.hub.deduplicates = False
    async with shop:
        (host,) = shop.hosts
        broker = Held(shop.hub)
        broker.confirms = asyncio.Event()
        await broker.start()
        host.broker = broker
        await send(shop, "a", 1)
        await shop.until(lambda: len(sent(shop)) == 1)
        stopping = asyncio.ensure_future(host.stop())
        await shop.until(lambda: not host.is_ready)
        broker.confirms.set()
        await stopping
        assert sent(shop) == [("a", 1)]


class Text(Event, topic="text"):
    text: str


def writer() -> Service:
    """A service that publishes as many texts at once as it is told."""
    service = Service("writer")

    @service.post("/texts/{count}/{size}")
    async def write(count: int, size: int, tx: Tx) -> None:
        for _ in range(count):
            tx.publish(Text(text="x" * size))

    return service


class Counting(MemoryBroker):
    """A broker that notes how many messages it is given at a time."""

    given: list[int]

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        self.given.append(len(messages))
        return await super().publish(messages)


@pytest.mark.parametrize(("size", "batches"), [(10, [500, 2000, 100]), (2_000, [500, 500, 100])])
async def test_a_backlog_of_small_messages_goes_out_in_larger_batches(size: int, batches: list[int]) -> None:
    """After a full batch of small messages more are taken at a time, which saves commits; of larger ones not."""
    async with TestShop(writer()) as shop:
        (host,) = shop.hosts
        broker = Counting(shop.hub)
        broker.given = []
        await broker.start()
        host.broker = broker
        assert (await shop.post(f"/texts/{sum(batches)}/{size}")).status_code == 200
        await shop.settle()

    assert broker.given == batches
