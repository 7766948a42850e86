"""The loop of a duty: a round of work when it is woken, or when its pause is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, Rejected, StatementFailed, StoreUnavailable
from torpor.kernel.retry import wait_before

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torpor.runtime.host import Host

POLL_SECONDS = 1.0  # what another process has left to do is found within


class Rounds:
    """Repeats a duty's work, waits longer and longer while broker or database are away or refuse, and says so."""

    __slots__ = ("_ended", "_ending", "_is_busy", "_is_failing", "_name", "_rested", "_wake")

    def __init__(self, name: str) -> None:
        self._name = name
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._ended = asyncio.Event()
        self._rested = asyncio.Event()
        self._is_busy = True
        self._is_failing = False

    @property
    def is_idle(self) -> bool:
        """Whether the last round found nothing more to do, and nothing has been reported since."""
        return not (self._is_busy or self._wake.is_set())

    def wake(self) -> None:
        """Asks for a round at once."""
        self._wake.set()
        if not self._is_failing:
            self._rested.clear()

    async def rest(self, host: Host, seconds: float) -> None:
        """Returns once what was asked for is done, or cannot be for now; at the latest after so many seconds."""
        if not self._rested.is_set():
            await host.clock.wait(self._rested, seconds)

    async def end(self) -> None:
        """Lets the round under way come to its end, and begins no other. So nothing is cut off between two steps."""
        self._ending.set()
        self._wake.set()
        await self._ended.wait()

    async def run(self, host: Host, work: Callable[[Host], Awaitable[float]]) -> None:
        """Works until it is ended. A round does all that there is, and returns how many seconds to pause."""
        try:
            await self._repeat(host, work)
        finally:
            self._ended.set()

    async def _repeat(self, host: Host, work: Callable[[Host], Awaitable[float]]) -> None:
        failures = 0
        while not self._ending.is_set():
            self._is_busy = True
            self._wake.clear()
            try:
                pause = await work(host)
            except (BrokerUnavailable, StoreUnavailable, StatementFailed, Rejected) as error:
                failures += 1
                self._is_failing = True
                self._rested.set()
                host.health.report(self._name, str(error))
                await host.clock.wait(self._ending, wait_before(failures))
            else:
                failures = 0
                self._is_busy = self._is_failing = False
                host.health.report(self._name, None)
                if self.is_idle:
                    self._rested.set()
                await host.clock.wait(self._wake, pause)
                await asyncio.sleep(0)  # so that a unit that has committed acknowledges before its events are read
