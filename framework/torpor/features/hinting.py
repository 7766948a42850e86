"""Hints between processes: whoever commits tells the keeper, so that it need not wait for its poll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.errors import StoreUnavailable
from torpor.runtime.rounds import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.runtime.context import Committed
    from torpor.runtime.host import Host
    from torpor.runtime.lease import Lease


class Hinter:
    """Tells the keeper of commits while it is another process, and listens while it is this one."""

    is_idle = True

    def __init__(self, lease: Lease, *, wake: Callable[[], None]) -> None:
        self._lease = lease
        self._wake = wake
        self._host: Host | None = None

    def committed(self, rows: Committed) -> None:
        """Hints that there is something to publish or to wait for."""
        if self._host is not None and self._lease.epoch is None and (rows.published or rows.timers):
            self._host.store.hints.tell()

    async def run(self, host: Host) -> None:
        """Listens whenever the lease is held, until cancelled."""
        self._host = host
        while True:
            if self._lease.epoch is not None:
                await self._listen(host)
            await host.clock.sleep(POLL_SECONDS)

    async def finish(self, host: Host) -> None:
        """Leaves nothing."""

    async def _listen(self, host: Host) -> None:
        """Listens until the lease is another's, or nothing can be heard."""
        is_over = asyncio.Event()
        listening = asyncio.create_task(host.store.hints.listen(self._wake), name="hints")
        listening.add_done_callback(lambda _: is_over.set())
        try:
            while self._lease.epoch is not None and not await host.clock.wait(is_over, POLL_SECONDS):
                pass
        finally:
            listening.cancel()
            (ended,) = await asyncio.gather(listening, return_exceptions=True)
        if isinstance(ended, StoreUnavailable):
            host.log.debug("no hints from other processes: %s", ended)
        elif isinstance(ended, Exception):
            raise ended
