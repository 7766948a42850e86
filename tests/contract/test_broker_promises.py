"""Each promise of a broker is shown by a test of the suite: an adapter that breaks it fails there."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.ports.broker import BrokerPromises
from torpor.testing.conformance.broker import PublishingConformance, SettlingConformance
from torpor.testing.conformance.broker_groups import SharingConformance
from torpor.testing.simulation.loop import Process, SimulationLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from torpor.adapters.memory.broker import MemoryConsumer
    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Delivery, Message
    from torpor.kernel.progress import Progress
    from torpor.ports.broker import Broker
    from torpor.ports.consumer import Consumer, Subscription

    Test = Callable[[Any, Broker, str], Awaitable[None]]

ALL = BrokerPromises(keeps_order=True, redelivers=True, settles_each=True, is_persistent=True, deduplicates=True)


class Honest:
    """The memory broker, which promises everything: its hub outlives it."""

    promises = ALL

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.inner = MemoryBroker(self.hub)
        self.consumers: list[Consumer] = []

    async def start(self) -> None:
        await self.inner.start()

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        await self.inner.declare(topics, subscriptions)

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        return await self.inner.publish(messages)

    async def consume(self, subscription: Subscription) -> Consumer:
        self.consumers.append(self.wrapped(await self.inner.consume(subscription)))
        return self.consumers[-1]

    def wrapped(self, consumer: MemoryConsumer) -> Consumer:
        return consumer

    async def ping(self) -> None:
        await self.inner.ping()

    async def stop(self) -> None:
        await self.inner.stop()


class Shuffling(Honest):
    """Stores what it is given in another order."""

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        return await self.inner.publish(messages[::-1])


class Copying(Honest):
    """Stores what is published twice."""

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        self.hub.deduplicates = False
        return await self.inner.publish(messages)


class Forgetting(Honest):
    """Has nothing any more when it starts again."""

    async def stop(self) -> None:
        await self.inner.stop()
        self.hub = MemoryHub()
        self.inner = MemoryBroker(self.hub)


class Kept:
    """A consumer that knows what it holds."""

    def __init__(self, inner: MemoryConsumer) -> None:
        self.inner = inner
        self.held: list[Delivery] = []
        self.done: set[int] = set()

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self.inner.fetch(limit)
        self.held += deliveries
        return deliveries

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.acknowledge(deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.release(deliveries)

    async def progress(self) -> Progress:
        return await self.inner.progress()

    async def stop(self) -> None:
        await self.inner.stop()


class Losing(Honest):
    """Takes what was handed out for done."""

    def wrapped(self, consumer: MemoryConsumer) -> Consumer:
        return Kept(consumer)

    async def stop(self) -> None:
        for consumer in self.consumers:
            assert isinstance(consumer, Kept)
            with contextlib.suppress(Exception):
                await consumer.acknowledge(consumer.held)
        await self.inner.stop()


class Watermarked(Kept):
    """Settles only what has nothing unsettled before it."""

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.done |= {id(delivery) for delivery in deliveries}
        while self.held and id(self.held[0]) in self.done:
            await self.inner.acknowledge([self.held.pop(0)])


class Watermarking(Honest):
    """Keeps one place for each group."""

    def wrapped(self, consumer: MemoryConsumer) -> Consumer:
        return Watermarked(consumer)


MUTANTS: list[tuple[str, type[Honest], type, str]] = [
    ("keeps_order", Shuffling, PublishingConformance, "test_messages_are_first_delivered_in_order"),
    ("order of a key", Shuffling, PublishingConformance, "test_messages_of_a_key_are_first_delivered_in_order"),
    ("redelivers", Losing, SettlingConformance, "test_what_was_not_acknowledged_comes_again"),
    ("settles_each", Watermarking, SharingConformance, "test_acknowledging_out_of_order_settles_exactly_those"),
    ("is_persistent", Forgetting, PublishingConformance, "test_confirmed_messages_outlive_the_broker"),
    ("deduplicates", Copying, PublishingConformance, "test_a_message_published_twice_is_delivered_once"),
]


def run(broker: Honest, suite: type, name: str) -> None:
    """Runs a test of a suite on a broker, in virtual time, so that waiting in vain takes none."""

    async def main() -> None:
        await broker.start()
        try:
            await getattr(suite(), name)(broker, "topic")
        finally:
            await broker.stop()

    loop = SimulationLoop(Random(0))
    loop.run(main(), Process("test", loop.create_future()))


@pytest.mark.parametrize(("promise", "mutant", "suite", "name"), MUTANTS, ids=[promise for promise, *_ in MUTANTS])
def test_who_breaks_a_promise_fails_the_suite(promise: str, mutant: type[Honest], suite: type, name: str) -> None:
    """The test of a promise passes with a broker that keeps it, and fails with one that breaks it."""
    run(Honest(), suite, name)
    with pytest.raises((AssertionError, asyncio.TimeoutError)):
        run(mutant(), suite, name)


def test_every_promise_has_its_mutant() -> None:
    """No promise is stated that nothing shows."""
    assert set(BrokerPromises.__slots__) <= {promise for promise, *_ in MUTANTS}


@pytest.mark.parametrize("missing", BrokerPromises.__slots__)
def test_what_is_not_promised_is_skipped(missing: str) -> None:
    """A test of a promise asks for it: without the promise it is skipped, and nothing else is asked."""
    (name, suite) = next((name, suite) for promise, _, suite, name in MUTANTS if promise == missing)
    broker = Honest()
    broker.promises = BrokerPromises(**{slot: slot != missing for slot in BrokerPromises.__slots__})
    with pytest.raises(pytest.skip.Exception, match=f"not promised: {missing}"):
        run(broker, suite, name)
