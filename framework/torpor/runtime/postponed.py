"""Duties that wait until they are needed, or until the start is over: a service that wakes for one event has none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from torpor.runtime.context import Committed
    from torpor.runtime.host import Duty, Host

_START_SECONDS = 1.0


class Postponed:
    """Stands for duties that are made, and their modules imported, when a commit first concerns them, and otherwise a
    moment after the start."""

    def __init__(self, make: Callable[[], Sequence[Duty]]) -> None:
        self._make = make
        self._duties: Sequence[Duty] = ()
        self._rests: list[Callable[[Host], Awaitable[None]]] = []
        self._needed = asyncio.Event()
        self._begun = asyncio.Event()
        self._missed: list[Committed] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing was committed that concerns them and is not done."""
        return not self._missed and all(duty.is_idle for duty in self._duties)

    def committed(self, rows: Committed) -> None:
        """Hands on what was committed, now or once they are made."""
        for duty in self._duties:
            duty.committed(rows)
        if not self._duties and (rows.published or rows.parked or rows.timers):
            self._missed.append(rows)
            self._needed.set()

    async def rest(self, host: Host) -> None:
        """Returns once what was committed here is out, if it can be now."""
        if not self._needed.is_set():
            return
        if not self._begun.is_set():
            await self._begun.wait()
        for rest in self._rests:
            await rest(host)

    async def run(self, host: Host) -> None:
        """Waits, and then does their work until cancelled."""
        await host.clock.wait(self._needed, _START_SECONDS)
        self._duties = self._make()
        self._rests = [duty.rest for duty in self._duties if hasattr(duty, "rest")]
        missed, self._missed = self._missed, []
        for rows in missed:
            self.committed(rows)
        self._needed.set()
        self._begun.set()
        tasks = [host.health.watch(type(duty).__name__.lower(), duty.run(host)) for duty in self._duties]
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, host: Host) -> None:
        """Ends their work in order. Those that are not needed yet have nothing to end."""
        if self._needed.is_set():
            await self._begun.wait()
        await asyncio.gather(*(duty.finish(host) for duty in self._duties))
