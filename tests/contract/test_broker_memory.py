"""The memory broker keeps the port's contract, and what it adds for tests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.ports.consumer import Subscription
from torpor.testing.conformance.broker import (
    ConsumingConformance,
    PublishingConformance,
    SettlingConformance,
    counted,
    numbers,
    open_consumer,
)
from torpor.testing.conformance.broker_groups import SharingConformance, TakeoverConformance
from torpor.testing.conformance.broker_progress import ProgressConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from torpor.ports.broker import Broker


class MemoryBackend:
    too_large: int | None = 1_048_577

    def __init__(self) -> None:
        self.hub = MemoryHub()

    def broker(self, *, can_fall_silent: bool = False) -> MemoryBroker:  # any can
        return MemoryBroker(self.hub)

    async def send_raw(self, topic: str, headers: Mapping[str, str], data: bytes) -> None:
        self.hub.inject(topic, headers, data)

    @contextlib.asynccontextmanager
    async def silenced(self, broker: Broker) -> AsyncIterator[None]:
        assert isinstance(broker, MemoryBroker)
        broker.depose()
        yield


@pytest.fixture
def backend() -> MemoryBackend:
    """Brokers on one hub."""
    return MemoryBackend()


class TestPublishing(PublishingConformance): ...


class TestConsuming(ConsumingConformance): ...


class TestSettling(SettlingConformance): ...


class TestTakeover(TakeoverConformance): ...


class TestProgress(ProgressConformance): ...


class TestSharing(SharingConformance): ...


async def test_the_hub_is_idle_once_everything_is_settled() -> None:
    """The hub knows when nothing is undelivered or unacknowledged in any group, released messages included."""
    hub = MemoryHub()
    broker = MemoryBroker(hub)
    await broker.start()
    first, second = await open_consumer(broker, "t", "first"), await open_consumer(broker, "t", "second")
    assert hub.is_idle

    await broker.publish(counted("t", range(2)))
    states = [hub.is_idle]
    deliveries = await first.fetch(10)
    await first.acknowledge(deliveries)
    states.append(hub.is_idle)
    deliveries = await second.fetch(10)
    states.append(hub.is_idle)
    await second.release(deliveries)
    states.append(hub.is_idle)
    assert states == [False] * 4

    await second.acknowledge(await second.fetch(10))
    assert hub.is_idle
    assert repr(hub) == "<MemoryHub idle topics=1 published=2>"


async def test_the_hub_keeps_the_record_of_what_was_published() -> None:
    """`hub.published` lists the messages of all topics in order, copies left out."""
    hub = MemoryHub()
    broker = MemoryBroker(hub)
    await broker.start()
    await broker.declare(["a", "b"], [])
    messages = [*counted("a", [0]), *counted("b", [1]), *counted("a", [2])]

    await broker.publish([*messages, *messages])

    assert hub.published == messages


async def test_a_hub_may_let_copies_through() -> None:
    """A test that wants to see duplicates turns deduplication off, and the promise says so."""
    broker = MemoryBroker(MemoryHub(deduplicates=False))
    await broker.start()
    consumer = await open_consumer(broker, "t")
    messages = counted("t", [1])

    await broker.publish([*messages, *messages])

    assert numbers(await consumer.fetch(10)) == [1, 1]
    assert not broker.promises.deduplicates


async def test_released_messages_come_before_newer_ones_in_order() -> None:
    """What comes back keeps its order and goes ahead of what is new."""
    broker = MemoryBroker(MemoryHub())
    await broker.start()
    consumer = await open_consumer(broker, "t")
    await broker.publish(counted("t", range(5)))

    deliveries = await consumer.fetch(4)
    await consumer.release([deliveries[2]])
    await consumer.release([deliveries[0]])

    assert numbers(await consumer.fetch(10)) == [0, 2, 4]


async def test_a_hub_that_is_down_is_unavailable_until_it_is_back() -> None:
    """A test plays an outage: waiting fetches end, everything raises BrokerUnavailable, and nothing is lost."""
    hub = MemoryHub()
    broker = MemoryBroker(hub)
    await broker.start()
    consumer = await open_consumer(broker, "t")
    waiting = asyncio.create_task(consumer.fetch(1))
    await asyncio.sleep(0)

    hub.is_down = True

    for call in (waiting, broker.ping(), broker.publish([]), consumer.acknowledge([]), MemoryBroker(hub).start()):
        with pytest.raises(BrokerUnavailable, match="is down"):
            await call
    hub.is_down = False
    await broker.publish(counted("t", [1]))
    assert numbers(await consumer.fetch(1)) == [1]


async def test_an_undeclared_topic_is_refused_with_a_hint() -> None:
    """Publishing to a topic that nobody declared is refused, and a near name is suggested."""
    broker = MemoryBroker(MemoryHub())
    await broker.start()
    await broker.declare(["orders.placed"], [])

    refusals = await broker.publish(counted("orders.place", [1]))

    assert "Did you mean 'orders.placed'?" in str(refusals[0])


async def test_an_undeclared_subscription_is_a_mistake() -> None:
    """Consuming what was not declared names the subscription."""
    broker = MemoryBroker(MemoryHub())
    await broker.start()

    with pytest.raises(ConfigurationError, match=r"<Subscription t group=g> is not declared"):
        await broker.consume(Subscription("t", "g"))
