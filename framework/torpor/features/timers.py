"""Timers: what waits for its time goes to the outbox log when it has come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.errors import StoreUnavailable
from torpor.kernel.retry import wait_before
from torpor.runtime.context import Committed
from torpor.runtime.lease import Lease

if TYPE_CHECKING:
    from torpor.runtime.host import Host

_NAME = "timers"
_BATCH = 200
_POLL_SECONDS = 1.0


class Timekeeper:
    """Fires what is due, in the order of the times, one process at a time.

    A timer leaves its table in the unit that appends its message, so that it fires once, however often it is tried.
    """

    def __init__(self) -> None:
        self.lease = Lease(_NAME)
        self._wake = asyncio.Event()
        self._is_busy = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due."""
        return not (self._is_busy or self._wake.is_set())

    def committed(self, rows: Committed) -> None:
        """Looks again when a timer was set: it may be the first."""
        if rows.timers:
            self._wake.set()

    async def run(self, host: Host) -> None:
        """Fires until cancelled."""
        failures = 0
        while True:
            self._is_busy = True
            self._wake.clear()
            try:
                pause = await self._fire_due(host)
            except StoreUnavailable as error:
                failures += 1
                host.health.report(_NAME, str(error))
                await host.clock.sleep(wait_before(failures))
            else:
                failures = 0
                host.health.report(_NAME, None)
                self._is_busy = False
                await host.clock.wait(self._wake, pause)

    async def finish(self, host: Host) -> None:
        """Lets another process fire what is due from now on."""
        try:
            await self.lease.let_go(host)
        except StoreUnavailable as error:
            host.log.warning("timers go on elsewhere once the lease has run out: %s", error)

    async def _fire_due(self, host: Host) -> float:
        """Fires what is due; returns how long nothing will be."""
        while await self.lease.hold(host):
            due = await host.store.timers.due(host.clock.time(), _BATCH)
            if not due:
                first = await host.store.timers.next_due()
                return _POLL_SECONDS if first is None else min(_POLL_SECONDS, max(0.0, first - host.clock.time()))
            async with host.store.unit() as unit:
                fired = [timer.message for timer in due if await unit.cancel(timer.name, timer.due_at)]
                await unit.append(fired, [])
                await unit.commit()
            host.committed(Committed(len(fired)))
        return _POLL_SECONDS
