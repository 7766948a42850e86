"""The redriver: hands parked messages whose time has come back to their binding, first of each key first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.errors import StoreUnavailable
from torpor.kernel.message import Delivery
from torpor.kernel.retry import wait_before

if TYPE_CHECKING:
    from torpor.runtime.context import Committed
    from torpor.runtime.host import Host

_POLL_SECONDS = 1.0
_LIMIT = 200
_UNKNOWN = "no handler of that name runs here"


class Redriver:
    """Polls for due rows; a row leaves the table in the unit that handles it, so none is handled twice."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._under_way: set[int] = set()
        self._is_busy = True

    @property
    def is_idle(self) -> bool:
        """Whether no due row is known of."""
        return not (self._is_busy or self._wake.is_set() or self._under_way)

    def committed(self, rows: Committed) -> None:  # a duty's signature
        """Looks again when a unit has parked a message, or has taken one out."""
        if rows.parked:
            self._wake.set()

    async def run(self, host: Host) -> None:
        """Redrives until cancelled."""
        failures = 0
        while True:
            self._is_busy = True
            self._wake.clear()
            try:
                await self._hand_over(host)
            except StoreUnavailable as error:
                failures += 1
                host.health.report("redriver", str(error))
                await host.clock.sleep(wait_before(failures))
            else:
                failures = 0
                host.health.report("redriver", None)
                self._is_busy = False
                await host.clock.wait(self._wake, _POLL_SECONDS)

    async def finish(self, host: Host) -> None:
        """Leaves the rows for the next start."""

    async def _hand_over(self, host: Host) -> None:
        rows = await host.store.parking.due(host.clock.time(), _LIMIT)
        self._under_way &= {row.number for row in rows}
        for row in rows:
            deliver = host.deliverers.get(row.binding)
            if row.number in self._under_way:
                continue
            if deliver is None:
                host.log.warning("parked message %d for %s stays: %s", row.number, row.binding, _UNKNOWN)
                continue
            self._under_way.add(row.number)
            deliver(Delivery(row.message, parked=row.number, attempts=row.attempts))
