"""A broker in memory: topics are append-only lists, groups have a cursor and a queue of what came back.

It has no tasks, threads or timers of its own, and does the same in each run. The active consumer of an unshared group
is the first that fetches; another takes over when it stops, or when `MemoryBroker.depose` plays its silence.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import TYPE_CHECKING

from torpor.kernel import cloudevents
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, NotRunning, Rejected, did_you_mean
from torpor.kernel.message import Delivery
from torpor.kernel.progress import Progress
from torpor.ports.broker import BrokerPromises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torpor.adapters.memory.exchange import MemoryExchange, Switch
    from torpor.kernel.message import Message
    from torpor.ports.consumer import Subscription


class MemoryHub:
    """What brokers of one process share: the topics, the groups, and the record of what was published.

    `deduplicates` is off for a test that wants to see every copy. `is_down` may be set by a test: everything then
    raises BrokerUnavailable until it is unset.
    """

    def __init__(
        self, *, max_payload: int = 1_048_576, deduplicates: bool = True, now: Callable[[], float] = time.time
    ) -> None:
        self.now = now  # when a message comes, for those who ask how long it waits
        self.max_payload = max_payload
        self.deduplicates = deduplicates
        self._switch: Switch | None = None
        self.published: list[Message] = []
        self._is_down = False
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[tuple[str, str], _Group] = {}

    @property
    def switch(self) -> Switch:
        """What passes through and is not kept."""
        if self._switch is None:
            from torpor.adapters.memory.exchange import Switch

            self._switch = Switch(max_payload=self.max_payload)
        return self._switch

    @property
    def is_idle(self) -> bool:
        """Whether nothing is undelivered or unacknowledged in any group."""
        return all(group.is_idle for group in self._groups.values())

    @property
    def is_down(self) -> bool:
        """Whether the broker plays dead."""
        return self._is_down

    @is_down.setter
    def is_down(self, value: bool) -> None:
        self._is_down = value
        if value and self._switch is not None:
            self._switch.cut()
        for group in self._groups.values():
            group.wake()

    def inject(self, topic: str, headers: Mapping[str, str], data: bytes) -> None:
        """Puts a message of some other producer on a declared topic, with whatever envelope it has."""
        known = self._topics[topic]
        position = f"{topic}:{len(known.log) + 1}"
        message, fault = cloudevents.decode(headers, data, topic=topic, position=position)
        self._append(known, message, fault)

    def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        """Makes topics and groups exist."""
        for name in (*topics, *(subscription.topic for subscription in subscriptions)):
            self._topics.setdefault(name, _Topic())
        for subscription in subscriptions:
            place = subscription.topic, subscription.group
            if place not in self._groups:
                topic = self._topics[subscription.topic]
                self._groups[place] = _Group(topic)
                topic.groups.append(self._groups[place])
            self._groups[place].is_shared = subscription.is_shared

    def group(self, subscription: Subscription) -> _Group:
        """The declared group of a subscription."""
        group = self._groups.get((subscription.topic, subscription.group))
        if group is None:
            raise ConfigurationError([f"{subscription!r} is not declared. Call declare() with it before consume()."])
        return group

    def send(self, message: Message) -> Rejected | None:
        """Appends a message to its topic, or tells why not. A copy is confirmed and dropped."""
        topic = self._topics.get(message.topic)
        if topic is None:
            hint = did_you_mean(message.topic, self._topics)
            return Rejected(f"Topic {message.topic!r} of {message!r} does not exist; declare it first.{hint}")
        if len(message.data) > self.max_payload:
            return Rejected(f"{message!r} is too large; the memory broker takes at most {self.max_payload} bytes.")
        if not self.deduplicates or message.id not in topic.ids:
            self._append(topic, message, None)
        return None

    def _append(self, topic: _Topic, message: Message, fault: str | None) -> None:
        topic.ids.add(message.id)
        topic.log.append((message, fault))
        topic.times.append(self.now())
        self.published.append(message)
        for group in topic.groups:
            group.wake()

    def __repr__(self) -> str:
        state = "down" if self._is_down else "idle" if self.is_idle else "busy"
        return f"<MemoryHub {state} topics={len(self._topics)} published={len(self.published)}>"


class _Topic:
    __slots__ = ("groups", "ids", "log", "times")

    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self.log: list[tuple[Message, str | None]] = []
        self.times: list[float] = []  # when each of the log came
        self.ids: set[str] = set()


class _Group:
    """A group's place in a topic. A position is in one of: ahead of the cursor, returned, held, done."""

    def __init__(self, topic: _Topic) -> None:
        self.topic = topic
        self.is_shared = False
        self.active: MemoryConsumer | None = None
        self.cursor = 0
        self.returned: list[int] = []  # a heap, so that what came back keeps its order
        self.held: dict[int, MemoryConsumer] = {}
        self.consumers: list[MemoryConsumer] = []

    @property
    def is_idle(self) -> bool:
        return not self.returned and not self.held and self.cursor == len(self.topic.log)

    def progress_of(self, consumer: MemoryConsumer) -> Progress:
        """How far the group is, as a consumer sees it."""
        unsettled = len(self.topic.log) - self.cursor + len(self.returned) + len(self.held)
        if not unsettled:
            return Progress(0)
        first = min([self.cursor, *self.returned[:1], *self.held])
        at = self.topic.times[first]
        if not self.is_shared:
            return Progress(unsettled, oldest_at=at, shares={"": first} if self.active in (None, consumer) else {})
        is_ours = consumer in self.held.values() or unsettled > len(self.held)
        settled = len(self.topic.log) - unsettled
        return Progress(unsettled, oldest_at=at, shares={"": settled} if is_ours else {})

    def take(self, limit: int, consumer: MemoryConsumer) -> list[Delivery]:
        taken: list[Delivery] = []
        if not self.is_shared and not self._is_active(consumer):
            return taken
        while len(taken) < limit and (self.returned or self.cursor < len(self.topic.log)):
            if self.returned:
                position = heapq.heappop(self.returned)
            else:
                position = self.cursor
                self.cursor += 1
            message, fault = self.topic.log[position]
            self.held[position] = consumer
            taken.append(Delivery(message, position, fault=fault))
        return taken

    def _is_active(self, consumer: MemoryConsumer) -> bool:
        """Whether a consumer is the active one. Who becomes it has all that is unsettled delivered from the first."""
        if self.active is None:
            self.active = consumer
            self._take_back([*self.held])
        return self.active is consumer

    def leave(self, consumer: MemoryConsumer) -> None:
        """Lets whoever fetches next take over, if this was the active one."""
        if self.active is consumer:
            self.active = None
            self.wake()

    def depose(self, consumer: MemoryConsumer) -> None:
        """Has the next of the others take over, if this was the active one."""
        if self.active is consumer:
            self.active = None
            self._is_active(next((other for other in self.consumers if other is not consumer), consumer))

    def _take_back(self, positions: list[int]) -> None:
        for position in positions:
            del self.held[position]
        self.give_back(positions)

    def settle(self, deliveries: Iterable[Delivery], consumer: MemoryConsumer) -> list[int]:
        """Takes deliveries out of the consumer's hands; those that it no longer holds are left alone."""
        positions = [delivery.token for delivery in deliveries if self.held.get(delivery.token) is consumer]
        for position in positions:
            del self.held[position]
        return positions

    def give_back(self, positions: Iterable[int]) -> None:
        for position in positions:
            heapq.heappush(self.returned, position)
        self.wake()

    def abandon(self, consumer: MemoryConsumer) -> None:
        self._take_back([position for position, holder in self.held.items() if holder is consumer])

    def wake(self) -> None:
        for consumer in self.consumers:
            consumer.news.set()


class MemoryBroker:
    """A service's connection to a hub."""

    def __init__(self, hub: MemoryHub) -> None:
        self.hub = hub
        self.promises = BrokerPromises(
            keeps_order=True,
            redelivers=True,
            settles_each=True,
            is_persistent=False,
            deduplicates=hub.deduplicates,
        )
        self._is_running = False
        self._consumers: list[MemoryConsumer] = []

    @property
    def exchange(self) -> MemoryExchange:
        """The way to what the hub does not keep."""
        from torpor.adapters.memory.exchange import MemoryExchange

        return MemoryExchange(self.hub.switch, self.check)

    async def start(self) -> None:
        self._check_up()
        self._is_running = True

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        self.check()
        self.hub.declare(topics, subscriptions)

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        self.check()
        refusals: dict[int, Rejected] = {}
        keys: set[str] = set()  # of what was refused
        for index, message in enumerate(messages):
            is_behind = message.key is not None and message.key in keys
            refusal = Rejected(f"{message!r} follows a refused message.") if is_behind else self.hub.send(message)
            if refusal is not None:
                refusals[index] = refusal
                if message.key is not None:
                    keys.add(message.key)
        return refusals

    async def consume(self, subscription: Subscription) -> MemoryConsumer:
        self.check()
        consumer = MemoryConsumer(subscription, self.hub.group(subscription), self)
        self._consumers.append(consumer)
        return consumer

    async def ping(self) -> None:
        self.check()

    async def stop(self) -> None:
        self._is_running = False
        for consumer in self._consumers:
            await consumer.stop()
            consumer.abandon()
        self._consumers.clear()

    def depose(self) -> None:
        """Has the others take over from all consumers of this connection, which stand by then: as when its process is
        dead or frozen."""
        for consumer in self._consumers:
            consumer.depose()

    def check(self) -> None:
        """Raises NotRunning, or BrokerUnavailable."""
        if not self._is_running:
            raise NotRunning("The memory broker is not running. Call start() first.")
        self._check_up()

    def _check_up(self) -> None:
        if self.hub.is_down:
            raise BrokerUnavailable("The memory broker is down (hub.is_down is set).")

    def __repr__(self) -> str:
        return f"<MemoryBroker {'running' if self._is_running else 'stopped'} on {self.hub!r}>"


class MemoryConsumer:
    """A live subscription to a hub."""

    def __init__(self, subscription: Subscription, group: _Group, broker: MemoryBroker) -> None:
        self.subscription = subscription
        self.news = asyncio.Event()
        self._group = group
        self._broker = broker
        self._is_stopped = False
        group.consumers.append(self)

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while True:
            if self._is_stopped:
                raise NotRunning(f"The consumer of {self.subscription!r} has stopped.")
            self._broker.check()
            taken = self._group.take(limit, self)
            if taken:
                return taken
            self.news.clear()
            await self.news.wait()

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._broker.check()
        self._group.settle(deliveries, self)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._broker.check()
        self._group.give_back(self._group.settle(deliveries, self))

    async def progress(self) -> Progress:
        self._broker.check()
        return self._group.progress_of(self)

    async def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._group.consumers.remove(self)
            self._group.leave(self)
            self.news.set()

    def depose(self) -> None:
        """Lets another consumer of its group take over; this one stands by, behind the others."""
        self._group.depose(self)

    def abandon(self) -> None:
        """Gives back what was handed out and never settled: the broker is going."""
        self._group.abandon(self)

    def __repr__(self) -> str:
        return f"<MemoryConsumer of {self.subscription!r}{' stopped' if self._is_stopped else ''}>"
