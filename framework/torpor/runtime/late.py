"""A broker that is made and connected when something is first published: a service that only answers has none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message
    from torpor.ports.broker import Broker, BrokerPromises
    from torpor.ports.consumer import Consumer, Subscription


class LateBroker:
    """Stands for a broker until it is needed."""

    __slots__ = ("_broker", "_is_up", "_make", "_starting", "_topics")

    def __init__(self, make: Callable[[], Broker]) -> None:
        self._make = make
        self._broker: Broker | None = None
        self._topics: set[str] = set()
        self._starting = asyncio.Lock()
        self._is_up = False

    @property
    def promises(self) -> BrokerPromises:
        """Those of the broker, which is made to ask it."""
        return self._made().promises

    async def start(self) -> None:
        """Nothing to connect yet."""

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        """Remembers topics until something is published; subscriptions are declared at once."""
        if self._is_up or subscriptions:
            await (await self._needed()).declare(topics, subscriptions)
        self._topics.update(topics)

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        """Connects the first time that there is something to publish."""
        return await (await self._needed()).publish(messages) if messages else {}

    async def consume(self, subscription: Subscription) -> Consumer:
        """Connects, and consumes."""
        return await (await self._needed()).consume(subscription)

    async def ping(self) -> None:
        """Asks a broker that has been needed."""
        if self._is_up and self._broker is not None:
            await self._broker.ping()

    async def stop(self) -> None:
        """Disconnects, if it was connected."""
        if self._broker is not None:
            await self._broker.stop()
        self._is_up = False

    async def _needed(self) -> Broker:
        broker = self._made()
        if not self._is_up:
            async with self._starting:  # two that publish at once connect once
                if not self._is_up:
                    await broker.start()
                    await broker.declare(sorted(self._topics), ())
                    self._is_up = True
        return broker

    def _made(self) -> Broker:
        if self._broker is None:
            self._broker = self._make()
        return self._broker

    def __repr__(self) -> str:
        return f"<LateBroker {self._broker!r}>"
