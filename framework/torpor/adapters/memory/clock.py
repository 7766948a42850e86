"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = 1_750_000_000.0  # the moment at which every virtual clock starts
_TURNS = 50  # of the loop, for what a waiter sets off to run


class VirtualClock:
    """Time that passes only by `advance`, the same way in each run.

    Whoever is due wakes in the order of the due times (ties: in the order of asking), each at its own time, and the
    loop runs between. Work outside the loop (a thread, a socket) is not waited for.
    """

    def __init__(self, start: float = EPOCH) -> None:
        self._now = start
        self._due: list[tuple[float, int, Callable[[], bool]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()

        def wake() -> bool:
            if future.done():
                return False
            future.set_result(None)
            return True

        if seconds > 0:
            self._wake_at(self._now + seconds, wake)
            await future
        else:
            await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        loop = asyncio.get_running_loop()
        is_over = False
        try:
            async with asyncio.timeout(None if seconds > 0 else 0) as scope:

                def wake() -> bool:
                    if not is_over:
                        scope.reschedule(loop.time())
                    return not is_over

                self._wake_at(self._now + seconds, wake)
                try:
                    await event.wait()
                finally:
                    is_over = True
        except TimeoutError:
            return event.is_set()
        return True

    async def advance(self, seconds: float) -> None:
        """Moves the time forward, waking each waiter that falls due on the way, and those that they add."""
        end = self._now + seconds
        await self._settle()
        while self._due and self._due[0][0] <= end:
            due, _, wake = heapq.heappop(self._due)
            self._now = max(self._now, due)
            if wake():
                await self._settle()
        self._now = max(self._now, end)

    def next_due(self) -> float | None:
        """When the next waiter is due, or None when nobody waits. It may have given up meanwhile."""
        return self._due[0][0] if self._due else None

    def _wake_at(self, due: float, wake: Callable[[], bool]) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), wake))

    async def _settle(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now} waiters={len(self._due)}>"
