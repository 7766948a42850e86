"""Timers: what waits for its time goes to the outbox log when it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import StatementFailed
from torpor.runtime.context import Committed
from torpor.runtime.rounds import POLL_SECONDS, Rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Timer
    from torpor.runtime.host import Host
    from torpor.runtime.lease import Lease

_BATCH = 200


class Timekeeper:
    """Fires what is due, in the order of the times, one process at a time.

    A timer leaves its table in the unit that appends its message, so that it fires once, however often it is tried.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._lease.join()
        self._rounds = Rounds("timers")

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due."""
        return self._rounds.is_idle

    def wake(self) -> None:
        """Looks at once for what another process has set."""
        self._rounds.wake()

    def committed(self, rows: Committed) -> None:
        """Looks again when a timer was set: it may be the first."""
        if rows.timers:
            self._rounds.wake()

    async def run(self, host: Host) -> None:
        """Fires until cancelled."""
        await self._rounds.run(host, self._fire_due)

    async def finish(self, host: Host) -> None:
        """Lets another process fire what is due from now on."""
        await self._rounds.end()
        await self._lease.leave(host)

    async def _fire_due(self, host: Host) -> float:
        """Fires what is due; returns how long nothing will be."""
        while await self._lease.hold(host) is not None:
            due = await host.store.timers.due(host.clock.time(), _BATCH)
            if not due:
                first = await host.store.timers.next_due()
                return POLL_SECONDS if first is None else min(POLL_SECONDS, max(0.0, first - host.clock.time()))
            try:
                await self._fire(host, due)
            except StatementFailed:
                await self._fire_one_by_one(host, due)
        return POLL_SECONDS

    async def _fire(self, host: Host, due: Sequence[Timer]) -> None:
        async with host.store.unit() as unit:
            fired = [timer.message for timer in due if await unit.cancel(timer.name, timer.due_at)]
            await unit.append(fired, [])
            await unit.commit()
        host.committed(Committed(len(fired)))

    async def _fire_one_by_one(self, host: Host, due: Sequence[Timer]) -> None:
        """Spares the others what the database refuses of one; that is raised once all have had their turn."""
        refusal: StatementFailed | None = None
        for timer in due:
            try:
                await self._fire(host, [timer])
            except StatementFailed as error:
                host.log.warning("timer %s cannot fire: %s", timer.name, error)
                refusal = error
        if refusal is not None:
            raise refusal
