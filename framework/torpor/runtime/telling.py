"""Telling: the fleeting events of committed units, on their way to the broker."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Message
    from torpor.ports.exchange import Exchange
    from torpor.runtime.context import Context

MOST_WAITING = 10_000


class Telling:
    """Hands messages over in order, in the background. What cannot go out at once is lost, and counted."""

    def __init__(self, exchange: Exchange | None, service: str, context: Context) -> None:
        self._exchange = exchange
        self._context = context
        self._log = logging.getLogger(f"torpor.{service}")
        self._waiting: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return self._task is None

    def put(self, messages: Sequence[Message]) -> None:
        """Has messages sent; those for which there is no room are lost. Must not wait."""
        room = MOST_WAITING - len(self._waiting)
        self._waiting.extend(messages[:room])
        self._context.metrics.lost += max(0, len(messages) - room)
        if self._task is None and self._waiting and self._exchange is not None:
            self._task = self._context.health.watch("telling", self._run(self._exchange))

    async def drained(self) -> None:
        """Waits until all is handed over."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self, exchange: Exchange) -> None:
        try:
            while self._waiting:
                batch = [*self._waiting]
                self._waiting.clear()
                await self._send(exchange, batch)
        finally:
            self._task = None

    async def _send(self, exchange: Exchange, batch: Sequence[Message]) -> None:
        metrics = self._context.metrics
        try:
            refusals = await exchange.tell(batch)
        except BrokerUnavailable as error:
            metrics.lost += len(batch)
            self._log.warning("%d fleeting events are lost: %s", len(batch), error)
            return
        metrics.lost += len(refusals)
        metrics.told += len(batch) - len(refusals)
        for refusal in refusals.values():
            self._log.error("a fleeting event is lost: %s", refusal)
