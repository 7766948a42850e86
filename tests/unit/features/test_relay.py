"""The relay: order, refusals, the lease, and what a clean stop leaves."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from torpor import Event, Message, Service, Tx
from torpor.adapters.memory.broker import MemoryBroker
from torpor.features.relay import Relay
from torpor.kernel.errors import BrokerUnavailable, Rejected
from torpor.ports.outbox import LogEntry, OutboxLog
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


class Watched:
    """An outbox log that notes past what it is read."""

    def __init__(self, inner: OutboxLog) -> None:
        self.advance = inner.advance
        self.replay = inner.replay
        self.pasts: list[int] = []
        self._inner = inner

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        """Reads, and notes the position that is read on from; 0 when it is the cursor's."""
        self.pasts.append((past or {}).get(0, 0))
        return await self._inner.pending(limit, epoch, past)


def watched(shop: TestShop, batch: int) -> Watched:
    """Puts a watched log under the only relay of a shop, and has it take so many rows at a time."""
    (host,) = shop.hosts
    (relay,) = (duty for duty in host.duties if isinstance(duty, Relay))
    relay.batch = batch
    log = Watched(host.store.outbox)
    host.store.outbox = log  # type: ignore[assignment]  # trim and state are not asked for
    return log


async def test_the_next_batch_is_read_while_one_is_on_its_way() -> None:
    """In a backlog the relay does not wait for confirmations before it reads on, and publishes only behind them."""
    async with TestShop(sender()) as shop:
        log = watched(shop, batch=2)
        (host,) = shop.hosts
        broker = await opened(shop)
        broker.is_away = True
        await send(shop, "a", *range(7))
        held = Held(shop.hub)
        held.confirms = asyncio.Event()
        await held.start()
        host.broker = held
        log.pasts.clear()
        await shop.clock.advance(5)
        await shop.until(lambda: log.pasts == [0, 2])
        assert sent(shop) == [("a", 0), ("a", 1)]
        held.confirms.set()
        await shop.settle()
        assert sent(shop) == [("a", number) for number in range(7)]


async def test_what_was_read_ahead_waits_behind_a_refusal() -> None:
    """A refusal that comes when the next batch is read already parks that batch's messages of the key as well."""
    async with TestShop(sender()) as shop:
        log = watched(shop, batch=2)
        broker = await opened(shop)
        broker.is_away = True
        await send(shop, "a", 0, 1, 2)
        await send(shop, "b", 3)
        await send(shop, "a", 4)
        broker.refused = 1
        broker.is_away = False
        log.pasts.clear()
        await shop.clock.advance(10)
        await shop.settle()
        assert log.pasts[:2] == [0, 2]
        assert sent(shop) == [("a", 0), ("b", 3)]
        assert [row.state for row in await shop.parked("outbox")] == ["parked", "waiting", "waiting"]


async def test_what_was_read_ahead_of_a_replay_is_not_published() -> None:
    """A replay while a batch is on its way has the relay begin anew from where the cursors are then."""
    async with TestShop(sender()) as shop:
        shop.hub.deduplicates = False
        (host,) = shop.hosts
        await send(shop, "a", 0)
        await shop.settle()
        broker = await opened(shop)
        broker.is_away = True
        watched(shop, batch=1)
        await send(shop, "a", 1, 2)
        held = Held(shop.hub)
        held.confirms = asyncio.Event()
        await held.start()
        host.broker = held
        await shop.clock.advance(5)
        await shop.until(lambda: len(sent(shop)) == 2)
        await host.store.outbox.replay(0)
        held.confirms.set()
        await shop.clock.advance(5)
        await shop.settle()
        assert [number for _, number in sent(shop)] == [0, 1, 0, 1, 2]


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


@pytest.mark.parametrize(("size", "batches"), [(10, [500, 4000, 100]), (2_000, [500, 500, 100])])
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
