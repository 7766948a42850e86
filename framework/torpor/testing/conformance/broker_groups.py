"""What a broker's adapter must keep when a group has several consumers: the order and the takeover of those that are
not shared, and the sharing of those that are. In a test module, with the fixture `backend` of `conformance.broker`:

```python
class TestTakeover(TakeoverConformance): ...


class TestSharing(SharingConformance): ...
```
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from torpor.kernel.errors import TorporError
from torpor.testing.conformance.broker import (
    DEADLINE,
    BrokerSuite,
    counted,
    needs,
    numbers,
    open_consumer,
    take,
    take_until_sentinel,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from torpor.kernel.message import Delivery
    from torpor.ports.broker import Broker
    from torpor.ports.consumer import Consumer
    from torpor.testing.conformance.broker import BrokerBackend

    Connect = Callable[[], Awaitable[Broker]]


class Member:
    """A consumer that handles what it is given, in order, until it is told to stop."""

    def __init__(self, broker: Broker, consumer: Consumer) -> None:
        self.broker = broker
        self.consumer = consumer
        self.given: list[int] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            deliveries = await self.consumer.fetch(5)
            self.given += numbers(deliveries)
            await self.consumer.acknowledge(deliveries)
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Stops in order, as a process does that is told to."""
        await self.pause()
        await self.consumer.stop()
        await self.broker.stop()

    async def pause(self) -> None:
        """Handles nothing more."""
        self.task.cancel()
        await asyncio.wait({self.task})


class TakeoverConformance(BrokerSuite):
    """Subscriptions that are not shared: one consumer of a group is active, and the next one takes over."""

    @pytest.fixture
    async def connect(self, backend: BrokerBackend) -> AsyncIterator[Connect]:
        """Starts further brokers, as other processes do."""
        brokers: list[Broker] = []

        async def connect() -> Broker:
            brokers.append(backend.broker(can_fall_silent=True))
            await brokers[-1].start()
            return brokers[-1]

        yield connect
        for broker in brokers:
            await broker.stop()

    async def test_one_consumer_of_a_group_is_active(self, broker: Broker, connect: Connect, topic: str) -> None:
        """While the first consumer lives, the others are given nothing, and it is given all in order."""
        members = await members_of(topic, [broker, await connect(), await connect()])
        async with asyncio.timeout(DEADLINE):
            for start in range(0, 300, 100):
                await broker.publish(counted(topic, range(start, start + 100)))
                await until(members, start + 99)
        for member in members:
            await member.pause()

        assert sorted((len(member.given), member.given == list(range(300))) for member in members) == [
            (0, False),
            (0, False),
            (300, True),
        ]

    @pytest.mark.parametrize("count", [2, 3])
    async def test_order_is_kept_when_consumers_stop(
        self, broker: Broker, connect: Connect, topic: str, count: int
    ) -> None:
        """Active consumers stop one after the other in the middle of their work: the next goes on in order at once,
        what was acknowledged is not given again, and nothing is lost."""
        members = await members_of(topic, [await connect() for _ in range(count)])
        left, last = [*members], 200 * count - 1
        async with asyncio.timeout(DEADLINE):
            for start in range(0, 200 * count, 200):
                await broker.publish(counted(topic, range(start, start + 200)))
                active = await active_of(left, start + 50)
                if len(left) > 1:
                    left.remove(active)
                    await active.stop()
            await until(left, last)
        await left[0].pause()

        assert sorted(number for member in members for number in member.given) == list(range(last + 1))
        assert all(member.given == sorted(member.given) for member in members)

    async def test_the_next_consumer_is_given_what_is_not_acknowledged_first(
        self, broker: Broker, connect: Connect, topic: str
    ) -> None:
        """After a consumer's end, the next one is given all from the first unacknowledged message on, in order and
        before anything newer."""
        needs(broker.promises.redelivers, "redelivers")
        first = await connect()
        consumer = await open_consumer(first, topic)
        await broker.publish(counted(topic, range(40)))
        held = await take(consumer, 30, acknowledge=False)
        await consumer.acknowledge(held[:10])
        await consumer.acknowledge([held[15], held[12]])
        await first.stop()
        await broker.publish(counted(topic, range(40, 60)))

        seen = numbers(await take_until_sentinel(broker, await open_consumer(broker, topic), topic))

        assert seen == sorted(seen)
        assert set(range(10, 60)) - {12, 15} <= set(seen) <= set(range(10, 60))

    async def test_what_a_stopping_consumer_works_on_comes_to_the_next(
        self, broker: Broker, connect: Connect, topic: str
    ) -> None:
        """A consumer that stops with deliveries in hand does not hold up its group. It may settle them still."""
        draining = await connect()
        stopping = await open_consumer(draining, topic)
        await broker.publish(counted(topic, range(50)))
        held = await take(stopping, 5, acknowledge=False)
        coming = await open_consumer(broker, topic)

        await stopping.stop()
        taken = await take(coming, 50)
        await stopping.acknowledge(held[:2])
        await stopping.release(held[2:])

        assert numbers(taken) == list(range(50))
        assert set(numbers(await take_until_sentinel(broker, coming, topic))) <= set(range(50))

    async def test_a_silent_consumer_is_replaced(
        self, broker: Broker, backend: BrokerBackend, connect: Connect, topic: str
    ) -> None:
        """A consumer that is silent, and holds a part: another is given all of it in order. When the silent one comes
        back, it stands by, and its late acknowledgements do no harm."""
        silent = await connect()
        former = await open_consumer(silent, topic)
        await broker.publish(counted(topic, range(60)))
        held = await take(former, 20, acknowledge=False)
        coming = Member(broker, await open_consumer(broker, topic))

        async with backend.silenced(silent), asyncio.timeout(DEADLINE):
            await until([coming], 59)
        await settle_quietly(former, held)
        await broker.publish(counted(topic, range(60, 80)))
        async with asyncio.timeout(DEADLINE):
            await until([coming], 79)
        await coming.pause()

        assert coming.given == list(range(80))

    async def test_a_silent_consumer_takes_its_turn_again(
        self, broker: Broker, backend: BrokerBackend, connect: Connect, topic: str
    ) -> None:
        """Who was replaced stands by, and takes over again from who replaced it."""
        silent, other = await connect(), await connect()
        former = Member(silent, await open_consumer(silent, topic))
        coming = Member(other, await open_consumer(other, topic))
        async with asyncio.timeout(DEADLINE):
            await broker.publish(counted(topic, range(10)))
            active = await active_of([former, coming], 9)
            second = coming if active is former else former
            async with backend.silenced(active.broker):
                await broker.publish(counted(topic, range(10, 20)))
                await until([second], 19)
            await second.stop()
            await broker.publish(counted(topic, range(20, 30)))
            await until([active], 29)
        await active.pause()

        assert active.given[-10:] == list(range(20, 30))
        assert sorted({*former.given, *coming.given}) == list(range(30))


class SharingConformance(BrokerSuite):
    """Shared subscriptions: whichever consumer, exactly once settled."""

    async def test_two_consumers_of_a_group_share(self, broker: Broker, backend: BrokerBackend, topic: str) -> None:
        """A thousand messages and two consumers of one group, in two processes' brokers: each message once."""
        other = backend.broker()
        await other.start()
        first, second = (
            await open_consumer(broker, topic, is_shared=True),
            await open_consumer(other, topic, is_shared=True),
        )
        seen: list[int] = []

        async def consume(consumer: Consumer) -> None:
            while len(seen) < 1000:
                deliveries = await consumer.fetch(50)
                seen.extend(numbers(deliveries))
                await consumer.acknowledge(deliveries)

        async with asyncio.timeout(DEADLINE):
            tasks = [asyncio.create_task(consume(consumer)) for consumer in (first, second)]
            for start in range(0, 1000, 100):
                await broker.publish(counted(topic, range(start, start + 100)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await other.stop()

        assert sorted(seen) == list(range(1000))

    async def test_acknowledging_out_of_order_settles_exactly_those(self, broker: Broker, topic: str) -> None:
        """Later deliveries may be acknowledged before earlier ones; after a restart only the others come."""
        needs(broker.promises.settles_each, "settles_each")
        consumer = await open_consumer(broker, topic, is_shared=True)
        await broker.publish(counted(topic, range(20)))
        deliveries = await take(consumer, 20, acknowledge=False)
        await consumer.acknowledge([d for d in reversed(deliveries) if int(d.message.data) % 2])
        await consumer.acknowledge([])

        await broker.stop()
        await broker.start()

        consumer = await open_consumer(broker, topic, is_shared=True)
        assert sorted(numbers(await take(consumer, 10))) == list(range(0, 20, 2))
        assert await take_until_sentinel(broker, consumer, topic) == []

    async def test_a_stopped_consumer_gives_back_what_it_had_not_handed_out(self, broker: Broker, topic: str) -> None:
        """What a consumer had fetched ahead goes to the others of its group, and it can settle what it handed out."""
        needs(broker.promises.settles_each, "settles_each")
        stopping = await open_consumer(broker, topic, is_shared=True)
        await broker.publish(counted(topic, range(50)))
        async with asyncio.timeout(DEADLINE):
            held = list(await stopping.fetch(2))

        await stopping.stop()
        consumer = await open_consumer(broker, topic, is_shared=True)
        others = await take(consumer, 50 - len(held))
        await stopping.acknowledge(held[:1])
        await stopping.release(held[1:])

        rest = [] if len(held) == 1 else await take(consumer, 1)
        assert sorted(numbers([*held[:1], *others, *rest])) == list(range(50))
        assert await take_until_sentinel(broker, consumer, topic) == []


async def members_of(topic: str, brokers: list[Broker]) -> list[Member]:
    """A consumer on each broker, all of one group."""
    return [Member(broker, await open_consumer(broker, topic)) for broker in brokers]


async def until(members: list[Member], last: int) -> None:
    """Waits until one of them was given a number."""
    while not any(last in member.given for member in members):
        await asyncio.sleep(0.005)
        for member in members:
            if member.task.done():
                member.task.result()


async def active_of(members: list[Member], number: int) -> Member:
    """The one that was given a number last, once one was."""
    await until(members, number)
    return next(member for member in members if number in member.given)


async def settle_quietly(consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
    """Acknowledges what may be another's by now."""
    try:
        await consumer.acknowledge(deliveries)
    except TorporError:
        return
