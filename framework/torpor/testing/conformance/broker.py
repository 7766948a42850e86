"""What a broker's adapter must keep. In a test module, with a fixture `backend` that returns a `BrokerBackend`:

```python
class TestPublishing(PublishingConformance): ...


class TestConsuming(ConsumingConformance): ...


class TestSettling(SettlingConformance): ...
```

The tests are async functions for anyio's pytest plugin in its auto mode. What the adapter does not promise is skipped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pytest

from torpor.kernel.errors import Rejected, TorporError
from torpor.kernel.message import Delivery, Message
from torpor.ports.consumer import Subscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from torpor.ports.broker import Broker
    from torpor.ports.consumer import Consumer

DEADLINE = 20.0  # seconds: no promise of speed, only the end of waiting in vain
SENTINEL = b"sentinel"
ATTRIBUTES = {"source": "/conformance", "datacontenttype": "application/json"}


class BrokerBackend(Protocol):
    """What an adapter's test module gives: brokers that share one server, and a way to be a foreign producer."""

    too_large: int | None  # a payload of so many bytes must be refused; None when there is no limit

    def broker(self, *, can_fall_silent: bool = False) -> Broker:
        """A new broker, not started. One for `silenced` may take another way to the server."""
        ...

    async def send_raw(self, topic: str, headers: Mapping[str, str], data: bytes) -> None:
        """Publishes to a declared topic as another program would, past the adapter."""
        ...

    def silenced(self, broker: Broker) -> AbstractAsyncContextManager[None]:
        """Has the server hear nothing of a broker, as of a frozen process."""
        ...


class BrokerSuite:
    """What the suites share: a started broker and a topic of the test's own."""

    @pytest.fixture
    async def broker(self, backend: BrokerBackend) -> AsyncIterator[Broker]:
        """A started broker, stopped after the test."""
        broker = backend.broker()
        await broker.start()
        yield broker
        await broker.stop()

    @pytest.fixture
    def topic(self) -> str:
        """A topic that no other test uses."""
        return f"conformance.{uuid4().hex}"


class PublishingConformance(BrokerSuite):
    """Publishing, declaring, starting and stopping."""

    @pytest.mark.parametrize("data", [b"", b"{}", bytes(range(256)), b"x" * 200_000], ids=lambda data: str(len(data)))
    @pytest.mark.parametrize("key", [None, "", "order-1", "clé № 1 %"])
    async def test_a_message_arrives_whole(self, broker: Broker, topic: str, data: bytes, key: str | None) -> None:
        """Topic, id, type, key, attributes and payload arrive as they were sent."""
        attributes = {**ATTRIBUTES, "traceparent": "00-0af7-b7ad-01", "subject": 'a "b" é\n%20'}
        sent = Message(topic, data, id=str(uuid4()), type="counted", key=key, attributes=attributes)
        consumer = await open_consumer(broker, topic)

        assert await broker.publish([sent]) == {}
        (received,) = await take(consumer, 1)

        assert received.fault is None
        assert received.message == sent

    async def test_messages_are_first_delivered_in_order(self, broker: Broker, topic: str) -> None:
        """Messages come in the order of their publishing, within a call and from call to call."""
        needs(broker.promises.keeps_order, "keeps_order")
        consumer = await open_consumer(broker, topic)

        for start in range(0, 300, 100):
            await broker.publish(counted(topic, range(start, start + 100)))

        assert numbers(await take(consumer, 300)) == list(range(300))

    async def test_messages_of_a_key_are_first_delivered_in_order(self, broker: Broker, topic: str) -> None:
        """Of many keys, in calls that mix them, each key's messages come in the order of their publishing."""
        consumer = await open_consumer(broker, topic)
        for start in range(0, 300, 60):
            await broker.publish(
                [
                    Message(
                        topic, str(n).encode(), id=str(uuid4()), type="counted", key=f"k{n % 7}", attributes=ATTRIBUTES
                    )
                    for n in range(start, start + 60)
                ]
            )

        seen = numbers(await take(consumer, 300))
        for key in range(7):
            assert [number for number in seen if number % 7 == key] == list(range(key, 300, 7))

    async def test_what_follows_on_the_key_of_a_refused_message_is_refused(
        self, broker: Broker, topic: str, backend: BrokerBackend
    ) -> None:
        """A key keeps its order: nothing of it overtakes a message that is too large. Other keys go on."""
        if backend.too_large is None:
            pytest.skip("not promised: a limit of size")
        consumer = await open_consumer(broker, topic)
        messages = [
            Message(topic, b"x" * backend.too_large if number == "2" else b"{}", id=number, type="t", key=key)
            for number, key in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "a"), ("5", None))
        ]
        assert list(await broker.publish(messages)) == [1, 3]
        assert [delivery.message.id for delivery in await take(consumer, 3)] == ["1", "3", "5"]

    async def test_refusals_are_told_by_index(self, broker: Broker, topic: str, backend: BrokerBackend) -> None:
        """A message that the broker will never take is refused by its index, and its neighbours are published."""
        if backend.too_large is None:
            pytest.skip("not promised: a limit of size")
        consumer = await open_consumer(broker, topic)
        messages = counted(topic, range(3))
        messages[1].data = bytes(backend.too_large)

        refusals = await broker.publish(messages)

        assert list(refusals) == [1]
        assert isinstance(refusals[1], Rejected)
        assert numbers(await take(consumer, 2)) == [0, 2]

    async def test_a_message_published_twice_is_delivered_once(self, broker: Broker, topic: str) -> None:
        """A repeated publishing, as after an outage, is confirmed and adds nothing."""
        needs(broker.promises.deduplicates, "deduplicates")
        consumer = await open_consumer(broker, topic)
        messages = counted(topic, range(10))

        assert await broker.publish(messages) == {}
        assert await broker.publish(messages) == {}

        assert numbers(await take_until_sentinel(broker, consumer, topic)) == list(range(10))

    async def test_publishing_nothing_is_nothing(self, broker: Broker) -> None:
        """An empty batch is confirmed at once."""
        assert await broker.publish([]) == {}

    async def test_declaring_again_changes_nothing(self, broker: Broker, backend: BrokerBackend, topic: str) -> None:
        """Topics and groups are declared again, by the same and by another broker, and no message is lost."""
        subscription = Subscription(topic, "group")
        await broker.declare([topic], [subscription])
        await broker.publish(counted(topic, range(5)))
        consumer = await broker.consume(subscription)
        assert numbers(await take(consumer, 5)) == list(range(5))
        other = backend.broker()
        await other.start()

        await broker.declare([topic], [subscription])
        await other.declare([topic, topic], [subscription, Subscription(topic, "group")])
        await other.publish(counted(topic, range(5, 10)))
        await other.stop()

        assert numbers(await take_until_sentinel(broker, consumer, topic)) == list(range(5, 10))

    async def test_confirmed_messages_outlive_the_broker(self, broker: Broker, topic: str) -> None:
        """What was confirmed is delivered after the broker was stopped and started again."""
        needs(broker.promises.is_persistent, "is_persistent")
        await broker.declare([topic], [Subscription(topic, "group")])
        await broker.publish(counted(topic, range(20)))

        await broker.stop()
        await broker.start()

        assert numbers(await take(await open_consumer(broker, topic), 20)) == list(range(20))

    async def test_a_broker_answers_only_while_it_runs(self, backend: BrokerBackend) -> None:
        """A running broker gives a sign of life; one that has not started or has stopped raises."""
        broker = backend.broker()
        with pytest.raises(TorporError):
            await broker.ping()

        await broker.start()
        await broker.ping()
        await broker.stop()

        with pytest.raises(TorporError):
            await broker.ping()
        with pytest.raises(TorporError):
            await broker.publish(counted("conformance.stopped", [0]))

    async def test_stopping_is_repeatable(self, backend: BrokerBackend) -> None:
        """A broker may be stopped twice, and without having been started."""
        broker = backend.broker()
        await broker.stop()
        await broker.start()
        await broker.stop()
        await broker.stop()


class ConsumingConformance(BrokerSuite):
    """Groups, fetching, and messages of other producers."""

    async def test_a_group_sees_what_is_published_after_it_was_declared(self, broker: Broker, topic: str) -> None:
        """A declared group misses nothing, though none of its consumers was there."""
        await broker.declare([topic], [Subscription(topic, "group")])
        await broker.publish(counted(topic, range(10)))

        assert numbers(await take(await broker.consume(Subscription(topic, "group")), 10)) == list(range(10))

    async def test_each_group_sees_each_message_once(self, broker: Broker, topic: str) -> None:
        """Groups do not take from one another."""
        groups = [await open_consumer(broker, topic, group) for group in ("first", "second", "a.b*c/é Ä>")]

        await broker.publish(counted(topic, range(20)))

        for consumer in groups:
            assert numbers(await take_until_sentinel(broker, consumer, topic)) == list(range(20))

    async def test_topics_are_apart(self, broker: Broker, topic: str) -> None:
        """Topics whose names differ only in case or in punctuation are different topics."""
        names = [f"{topic}.a-b", f"{topic}.a_b", f"{topic}.A-b", f"{topic}.a.b"]
        consumers = [await open_consumer(broker, name) for name in names]

        for number, name in enumerate(names):
            await broker.publish(counted(name, [number]))

        for number, (name, consumer) in enumerate(zip(names, consumers, strict=True)):
            assert numbers(await take_until_sentinel(broker, consumer, name)) == [number]

    async def test_fetch_waits_and_keeps_to_its_limit(self, broker: Broker, topic: str) -> None:
        """A fetch waits for the first message, and never gives more than it was asked for, nor nothing."""
        consumer = await open_consumer(broker, topic)
        waiting = asyncio.create_task(consumer.fetch(7))
        await asyncio.sleep(0)
        assert not waiting.done()

        await broker.publish(counted(topic, range(50)))

        async with asyncio.timeout(DEADLINE):
            fetched = list(await waiting)
            while len(fetched) < 50:
                more = await consumer.fetch(7)
                assert 1 <= len(more) <= 7
                fetched.extend(more)
        assert sorted(numbers(fetched)) == list(range(50))

    async def test_fetch_is_safe_to_cancel(self, broker: Broker, topic: str) -> None:
        """A fetch that is cancelled at any moment loses no delivery and doubles none."""
        consumer = await open_consumer(broker, topic)
        seen: list[int] = []
        async with asyncio.timeout(DEADLINE):
            turn = 0
            while len(seen) < 200:
                if turn < 20:
                    await broker.publish(counted(topic, range(turn * 10, turn * 10 + 10)))
                fetching = asyncio.create_task(consumer.fetch(3))
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                fetching.cancel()
                (result,) = await asyncio.gather(fetching, return_exceptions=True)
                if not isinstance(result, BaseException):
                    seen.extend(numbers(result))
                    await consumer.acknowledge(result)
                turn += 1

        seen.extend(numbers(await take_until_sentinel(broker, consumer, topic)))
        assert sorted(seen) == list(range(200))

    @pytest.mark.parametrize("data", [b'{"plain": true}', b"", b"\xff\x00\xfe"])
    async def test_a_message_without_an_envelope_is_taken_as_it_is(
        self, broker: Broker, backend: BrokerBackend, topic: str, data: bytes
    ) -> None:
        """A foreign message has no fault and no type; its id is its place, so it is the same for each group."""
        first, second = await open_consumer(broker, topic, "first"), await open_consumer(broker, topic, "second")

        await backend.send_raw(topic, {}, data)
        await backend.send_raw(topic, {"x-foreign": "1"}, data)
        deliveries = await take(first, 2)

        assert [(d.fault, d.message.type, d.message.data) for d in deliveries] == [(None, "", data)] * 2
        ids = [d.message.id for d in deliveries]
        assert len(set(ids)) == 2
        assert [d.message.id for d in await take(second, 2)] == ids

    async def test_a_structured_event_is_read(self, broker: Broker, backend: BrokerBackend, topic: str) -> None:
        """A CloudEvent in structured mode becomes a message like those in binary mode."""
        consumer = await open_consumer(broker, topic)
        event = b'{"specversion":"1.0","id":"1","source":"/s","type":"counted","partitionkey":"k","data":{"n": 1}}'

        await backend.send_raw(topic, {"content-type": "application/cloudevents+json"}, event)
        (delivery,) = await take(consumer, 1)

        message = delivery.message
        assert delivery.fault is None
        assert (message.id, message.type, message.key, message.data) == ("1", "counted", "k", b'{"n": 1}')

    @pytest.mark.parametrize(
        "headers",
        [{"ce-id": "1"}, {"content-type": "application/cloudevents+json"}, {"ce-id": "%ff", "ce-type": "t"}],
        ids=["half", "structured", "escape"],
    )
    async def test_what_cannot_be_read_comes_with_its_fault_and_its_bytes(
        self, broker: Broker, backend: BrokerBackend, topic: str, headers: dict[str, str]
    ) -> None:
        """A broken envelope is delivered with the fault told and the bytes whole, and can be acknowledged."""
        consumer = await open_consumer(broker, topic)

        await backend.send_raw(topic, headers, b"\xff not json")
        (delivery,) = await take(consumer, 1)

        assert delivery.fault
        assert delivery.message.data == b"\xff not json"
        assert delivery.message.id
        assert await take_until_sentinel(broker, consumer, topic) == []


class SettlingConformance(BrokerSuite):
    """Acknowledging, releasing, and what comes again."""

    async def test_what_was_not_acknowledged_comes_again(self, broker: Broker, topic: str) -> None:
        """What was handed out and not settled when the broker stopped comes to the next one."""
        needs(broker.promises.redelivers, "redelivers")
        consumer = await open_consumer(broker, topic)
        await broker.publish(counted(topic, range(10)))
        await take(consumer, 10, acknowledge=False)

        await broker.stop()
        await broker.start()

        assert sorted(numbers(await take(await open_consumer(broker, topic), 10))) == list(range(10))

    async def test_what_was_acknowledged_never_comes_again(self, broker: Broker, topic: str) -> None:
        """Acknowledgements that were still buffered are sent before the broker stops."""
        consumer = await open_consumer(broker, topic)
        await broker.publish(counted(topic, range(100)))
        await take(consumer, 100)

        await broker.stop()
        await broker.start()

        assert await take_until_sentinel(broker, await open_consumer(broker, topic), topic) == []

    async def test_what_is_released_comes_again(self, broker: Broker, topic: str) -> None:
        """A delivery that was given back is delivered again, to whichever consumer, and then settled as any other."""
        consumer, other = await open_consumer(broker, topic), await open_consumer(broker, topic)
        await broker.publish(counted(topic, [1]))
        async with asyncio.timeout(DEADLINE):
            fetching = {asyncio.create_task(c.fetch(10)): c for c in (consumer, other)}
            done, pending = await asyncio.wait(fetching, return_when=asyncio.FIRST_COMPLETED)
            first = done.pop()
            await fetching[first].release(first.result())
            holder = fetching[first]
            more = asyncio.create_task(holder.fetch(10))
            done, _ = await asyncio.wait({more, *pending}, return_when=asyncio.FIRST_COMPLETED)
            second = done.pop()
            assert numbers(second.result()) == [1]
            await (holder if second is more else fetching[second]).acknowledge(second.result())
            for task in (more, *pending):
                task.cancel()
            await asyncio.gather(more, *pending, return_exceptions=True)
        await other.stop()

        assert await take_until_sentinel(broker, consumer, topic) == []

    async def test_a_stopped_consumer_fetches_no_more(self, broker: Broker, topic: str) -> None:
        """A fetch that waits when its consumer stops ends with an error, and so does a later one."""
        consumer = await open_consumer(broker, topic)
        waiting = asyncio.create_task(consumer.fetch(1))
        await asyncio.sleep(0)

        await consumer.stop()
        await consumer.stop()

        for fetching in (waiting, consumer.fetch(1)):
            with pytest.raises(TorporError):
                async with asyncio.timeout(DEADLINE):
                    await fetching

    async def test_consumers_that_come_and_go_lose_nothing(self, broker: Broker, topic: str) -> None:
        """Consumers that stop in the middle of a stream leave the rest to those that follow; nothing is lost."""
        await broker.declare([topic], [Subscription(topic, "group")])
        seen: list[int] = []
        async with asyncio.timeout(DEADLINE):
            for turn in range(10):
                await broker.publish(counted(topic, range(turn * 20, turn * 20 + 20)))
                consumer = await broker.consume(Subscription(topic, "group"))
                deliveries = list(await consumer.fetch(10))
                seen.extend(numbers(deliveries[::2]))
                await consumer.acknowledge(deliveries[::2])
                await consumer.release(deliveries[1::2])
                await consumer.stop()

        seen.extend(numbers(await take_until_sentinel(broker, await open_consumer(broker, topic), topic)))
        assert list(dict.fromkeys(sorted(seen))) == list(range(200))


def needs(is_promised: bool, name: str) -> None:  # noqa: FBT001  # reads as a sentence: needs(promises.x, "x")
    """Skips a test of what the adapter does not promise."""
    if not is_promised:
        pytest.skip(f"not promised: {name}")


def counted(topic: str, span: Iterable[int]) -> list[Message]:
    """Messages whose payloads are the numbers of a span."""
    return [
        Message(topic, str(number).encode(), id=str(uuid4()), type="counted", key=str(number), attributes=ATTRIBUTES)
        for number in span
    ]


def numbers(deliveries: Iterable[Delivery]) -> list[int]:
    """The numbers that deliveries of counted messages carry."""
    return [int(delivery.message.data) for delivery in deliveries]


async def open_consumer(broker: Broker, topic: str, group: str = "group", *, is_shared: bool = False) -> Consumer:
    """A consumer of a subscription that is declared for it."""
    subscription = Subscription(topic, group, is_shared=is_shared)
    await broker.declare([topic], [subscription])
    return await broker.consume(subscription)


async def take(consumer: Consumer, count: int, *, acknowledge: bool = True) -> Sequence[Delivery]:
    """Fetches so many deliveries, by the deadline."""
    taken: list[Delivery] = []
    async with asyncio.timeout(DEADLINE):
        while len(taken) < count:
            deliveries = await consumer.fetch(count - len(taken))
            taken.extend(deliveries)
            if acknowledge:
                await consumer.acknowledge(deliveries)
    return taken


async def take_until_sentinel(broker: Broker, consumer: Consumer, topic: str) -> list[Delivery]:
    """Publishes a last message and acknowledges all up to it; what comes again would come before or with it."""
    sentinel = Message(topic, SENTINEL, id=str(uuid4()), type="sentinel", attributes=ATTRIBUTES)
    await broker.publish([sentinel])
    taken: list[Delivery] = []
    is_seen = False
    async with asyncio.timeout(DEADLINE):
        while not is_seen:
            deliveries = await consumer.fetch(100)
            await consumer.acknowledge(deliveries)
            is_seen = any(delivery.message.id == sentinel.id for delivery in deliveries)
            taken.extend(delivery for delivery in deliveries if delivery.message.data != SENTINEL)
    return taken
