"""Ports with a watch in hand: they note when a message was committed, confirmed and acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from torpor.adapters.system.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from torpor.kernel.message import Message
    from torpor.ports.broker import Broker
    from torpor.ports.store import Store


class Watch:
    """When each outbox row was committed, and how long it then took until it was confirmed."""

    def __init__(self) -> None:
        self.committed: dict[str, float] = {}
        self.waits: list[float] = []
        self.acknowledged = asyncio.Event()

    def confirmed(self, messages: Sequence[Message]) -> None:
        """Notes what the broker has."""
        now = time.perf_counter()
        for message in messages:
            at = self.committed.pop(message.id, None)
            if at is not None:
                self.waits.append(now - at)


class WatchedStore:
    """A store whose units note their commits."""

    def __init__(self, store: Store, watch: Watch) -> None:
        self._store = store
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def unit(self) -> WatchedUnit:
        """A unit that notes its commit."""
        return WatchedUnit(self._store.unit(), self._watch)


class WatchedUnit:
    """A unit, and what it appended."""

    def __init__(self, opening: Any, watch: Watch) -> None:
        self._opening = opening
        self._unit: Any = None
        self._watch = watch
        self._appended: Sequence[Message] = ()

    async def __aenter__(self) -> Self:
        self._unit = await self._opening.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opening.__aexit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unit, name)

    async def append(self, messages: Sequence[Message], *others: Any) -> None:
        """Appends, and remembers what."""
        self._appended = messages
        await self._unit.append(messages, *others)

    async def commit(self) -> None:
        """Commits, and notes when."""
        await self._unit.commit()
        now = time.perf_counter()
        for message in self._appended:
            self._watch.committed[message.id] = now


class WatchedBroker:
    """A broker that notes what it confirmed, and each acknowledgement."""

    def __init__(self, broker: Broker, watch: Watch) -> None:
        self._broker = broker
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def publish(self, messages: Sequence[Message]) -> Any:
        """Publishes, and notes the end."""
        refusals = await self._broker.publish(messages)
        self._watch.confirmed(messages)
        return refusals

    async def consume(self, subscription: Any) -> WatchedConsumer:
        """A consumer that notes its acknowledgements."""
        return WatchedConsumer(await self._broker.consume(subscription), self._watch)


class WatchedConsumer:
    """A consumer that notes its acknowledgements."""

    def __init__(self, consumer: Any, watch: Watch) -> None:
        self._consumer = consumer
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    async def acknowledge(self, deliveries: Any) -> None:
        """Acknowledges, and tells that."""
        await self._consumer.acknowledge(deliveries)
        self._watch.acknowledged.set()


class ShiftedClock(SystemClock):
    """The system's clock, so many seconds late."""

    def __init__(self) -> None:
        self.late = 0.0

    def time(self) -> float:
        """Now, or some time ago."""
        return super().time() - self.late
