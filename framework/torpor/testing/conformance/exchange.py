"""What an exchange must keep. In a test module, with a fixture `exchanges` that returns an `ExchangeBackend`:

```python
class TestTelling(TellingConformance): ...


class TestAsking(AskingConformance): ...
```
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pytest

from torpor.kernel.errors import BrokerUnavailable, NotRunning, Rejected
from torpor.kernel.message import Message
from torpor.testing.conformance.broker import ATTRIBUTES, DEADLINE, counted, needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from torpor.ports.broker import Broker
    from torpor.ports.exchange import Exchange, Heard, Listening


class ExchangeBackend(Protocol):
    """What an adapter's test module gives: exchanges that share one server, each on a broker of its own."""

    too_large: int  # a payload of so many bytes must be refused

    def exchange(self) -> tuple[Broker, Exchange]:
        """A broker that is not started, and the exchange that lives on it."""
        ...


class ExchangeSuite:
    """What the suites share: started exchanges, and a topic of the test's own."""

    @pytest.fixture
    async def start(self, exchanges: ExchangeBackend) -> AsyncIterator[Callable[[], Awaitable[Exchange]]]:
        """Starts an exchange for a test; all are stopped after it."""
        brokers: list[Broker] = []

        async def start() -> Exchange:
            broker, exchange = exchanges.exchange()
            await broker.start()
            brokers.append(broker)
            return exchange

        yield start
        for broker in brokers:
            await broker.stop()

    @pytest.fixture
    async def exchange(self, start: Callable[[], Awaitable[Exchange]]) -> Exchange:
        """A started exchange."""
        return await start()

    @pytest.fixture
    async def other(self, start: Callable[[], Awaitable[Exchange]]) -> Exchange:
        """Another one, of another process as it were."""
        return await start()

    @pytest.fixture
    def topic(self) -> str:
        """A topic that no other test uses."""
        return f"passing.{uuid4().hex}"


class Ear:
    """Notes what one listener hears."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    def take(self, heard: Heard) -> None:
        self.heard.append(heard)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the counted messages."""
        return [int(heard.message.data) for heard in self.heard]


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a fact."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # a fact of any kind has no event
            await asyncio.sleep(0.005)


class TellingConformance(ExchangeSuite):
    """Messages to whoever listens."""

    async def test_a_message_is_heard_whole(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """Topic, id, type, key, attributes and payload are heard as they were told, and no answer is waited for."""
        ear = Ear()
        listening = await other.listen(topic, "group", ear.take)
        assert listening.trouble is None
        attributes = {**ATTRIBUTES, "traceparent": "00-0af7-b7ad-01", "subject": 'a "b" é\n%20'}
        told = Message(topic, bytes(range(256)), id=str(uuid4()), type="counted", key="clé 1 %", attributes=attributes)

        assert await exchange.tell([told]) == {}
        await until(lambda: len(ear.heard) == 1)

        assert (ear.heard[0].message, ear.heard[0].fault, ear.heard[0].way) == (told, None, None)

    async def test_one_listener_hears_in_order(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """What one exchange tells is heard in that order."""
        needs(exchange.promises.keeps_order, "keeps_order")
        ear = Ear()
        await other.listen(topic, "group", ear.take)

        for first in range(0, 1000, 100):
            await exchange.tell(counted(topic, range(first, first + 100)))
        await until(lambda: len(ear.heard) == 1000)

        assert ear.numbers == list(range(1000))

    async def test_groups_hear_all_and_members_a_share(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """Each group hears every message once, by one of its members, and each member hears some."""
        members, single = [Ear(), Ear()], Ear()
        await exchange.listen(topic, "several", members[0].take)
        await other.listen(topic, "several", members[1].take)
        await other.listen(topic, "one", single.take)

        await exchange.tell(counted(topic, range(200)))
        await until(lambda: len(single.heard) == 200 and sum(len(ear.heard) for ear in members) >= 200)

        assert sorted(members[0].numbers + members[1].numbers) == list(range(200))
        assert members[0].heard
        assert members[1].heard

    async def test_what_nobody_hears_is_gone(self, exchange: Exchange, topic: str) -> None:
        """A message that was told before anybody listened is never heard."""
        await exchange.tell(counted(topic, [1]))
        ear = Ear()
        await exchange.listen(topic, "group", ear.take)

        await exchange.tell(counted(topic, [2]))
        await until(lambda: bool(ear.heard))

        assert ear.numbers == [2]

    async def test_who_has_stopped_hears_no_more(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """After a stop, which may be repeated, the other members of the group hear all."""
        leaving, staying = Ear(), Ear()
        listening: Listening = await exchange.listen(topic, "group", leaving.take)
        await other.listen(topic, "group", staying.take)

        await listening.stop()
        await listening.stop()
        await other.tell(counted(topic, range(50)))
        await until(lambda: len(staying.heard) == 50)

        assert not leaving.heard

    async def test_what_is_too_large_is_refused(
        self, exchange: Exchange, topic: str, exchanges: ExchangeBackend
    ) -> None:
        """A message that is too large is refused by its index, and its neighbours are told."""
        ear = Ear()
        await exchange.listen(topic, "group", ear.take)
        messages = counted(topic, range(3))
        messages[1].data = bytes(exchanges.too_large)

        refusals = await exchange.tell(messages)
        await until(lambda: len(ear.heard) == 2)

        assert list(refusals) == [1]
        assert isinstance(refusals[1], Rejected)

    async def test_a_stopped_exchange_says_so(self, exchanges: ExchangeBackend, topic: str) -> None:
        """Before the start and after the stop of its broker an exchange raises."""
        broker, exchange = exchanges.exchange()
        for _ in range(2):
            for call in (exchange.tell(counted(topic, [1])), exchange.ask(counted(topic, [1])[0])):
                with pytest.raises((NotRunning, BrokerUnavailable)):
                    await call
            await broker.start()
            await broker.stop()


class AskingConformance(ExchangeSuite):
    """Requests and answers."""

    async def test_a_request_is_answered(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """Who asks gets the answer whole, and of two members of the group one answers."""
        ear = Ear()
        await exchange.listen(topic, "group", ear.take)
        await other.listen(topic, "group", ear.take)
        asking = asyncio.create_task(other.ask(counted(topic, [1])[0]))
        await until(lambda: bool(ear.heard))

        answer = Message(topic, b"\x00yes", id="a-1", type="answer", attributes={**ATTRIBUTES, "code": "é"})
        await exchange.answer(ear.heard[0], answer)
        async with asyncio.timeout(DEADLINE):
            got = await asking

        assert got is not None
        assert (got.data, got.id, got.type, got.attributes) == (answer.data, "a-1", "answer", answer.attributes)
        assert len(ear.heard) == 1

    async def test_answers_come_in_any_order(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """Of many requests at once each gets its own answer."""
        ear = Ear()
        await exchange.listen(topic, "group", ear.take)
        asking = [asyncio.create_task(other.ask(request)) for request in counted(topic, range(500))]
        await until(lambda: len(ear.heard) == 500)

        for heard in reversed(ear.heard):
            await exchange.answer(heard, Message(topic, heard.message.data, id=str(uuid4()), type="t"))
        async with asyncio.timeout(DEADLINE):
            answers = await asyncio.gather(*asking)

        assert [int(answer.data) for answer in answers if answer] == list(range(500))

    async def test_absence_is_told_at_once(self, exchange: Exchange, other: Exchange, topic: str) -> None:
        """A request to which nobody listens, or nobody any more, has no answer and needs no waiting."""
        needs(exchange.promises.tells_absence, "tells_absence")
        listening = await other.listen(topic, "group", Ear().take)
        await listening.stop()
        async with asyncio.timeout(DEADLINE):
            assert await exchange.ask(counted(topic, [1])[0]) is None

    async def test_a_request_that_is_too_large_is_refused(
        self, exchange: Exchange, topic: str, exchanges: ExchangeBackend
    ) -> None:
        """A request, and an answer, that is too large raises Rejected, and the exchange goes on."""
        ear = Ear()
        await exchange.listen(topic, "group", ear.take)
        large = Message(topic, bytes(exchanges.too_large), id="1", type="t")
        with pytest.raises(Rejected):
            await exchange.ask(large)

        asking = asyncio.create_task(exchange.ask(counted(topic, [1])[0]))
        await until(lambda: bool(ear.heard))
        with pytest.raises(Rejected):
            await exchange.answer(ear.heard[0], large)
        await exchange.answer(ear.heard[0], Message(topic, b"small", id="2", type="t"))
        async with asyncio.timeout(DEADLINE):
            answer = await asking
        assert answer is not None
        assert answer.data == b"small"

    async def test_a_cancelled_caller_leaves_nothing_behind(
        self, exchange: Exchange, other: Exchange, topic: str
    ) -> None:
        """Who waits may be cancelled; the late answer is lost, and later requests are answered."""
        ear = Ear()
        await other.listen(topic, "group", ear.take)
        asking = asyncio.create_task(exchange.ask(counted(topic, [1])[0]))
        await until(lambda: bool(ear.heard))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await other.answer(ear.heard[0], Message(topic, b"late", id="1", type="t"))

        again = asyncio.create_task(exchange.ask(counted(topic, [2])[0]))
        await until(lambda: len(ear.heard) == 2)
        await other.answer(ear.heard[1], Message(topic, b"in time", id="2", type="t"))
        async with asyncio.timeout(DEADLINE):
            answer = await again
        assert answer is not None
        assert answer.data == b"in time"
