"""The redriver: hands parked messages whose time has come back to their binding, first of each key first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.message import Delivery
from torpor.runtime.rounds import POLL_SECONDS, Rounds

if TYPE_CHECKING:
    from torpor.kernel.message import ParkedMessage
    from torpor.runtime.context import Committed
    from torpor.runtime.host import Host

_LIMIT = 200
_UNKNOWN = "no handler of that name runs here"


class Redriver:
    """Polls for due rows; a row leaves the table in the unit that handles it, so none is handled twice."""

    def __init__(self) -> None:
        self._rounds = Rounds("redriver")
        self._under_way: set[tuple[int, float, int]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no due row is known of."""
        return self._rounds.is_idle and not self._under_way

    def committed(self, rows: Committed) -> None:
        """Looks again when a unit has parked a message, or has taken one out."""
        if rows.parked:
            self._rounds.wake()

    async def run(self, host: Host) -> None:
        """Redrives until cancelled."""
        await self._rounds.run(host, self._hand_over)

    async def finish(self, host: Host) -> None:
        """Leaves the rows for the next start."""

    async def _hand_over(self, host: Host) -> float:
        rows = await host.store.parking.due(host.clock.time(), _LIMIT)
        self._under_way &= {_version(row) for row in rows}
        for row in rows:
            deliver = host.deliverers.get(row.binding)
            if _version(row) in self._under_way:
                continue
            if deliver is None:
                host.log.warning("parked message %d for %s stays: %s", row.number, row.binding, _UNKNOWN)
                continue
            self._under_way.add(_version(row))
            deliver(Delivery(row.message, parked=row.number, attempts=row.attempts))
        return POLL_SECONDS


def _version(row: ParkedMessage) -> tuple[int, float, int]:
    """Tells a row from one of its number that was parked again, and may be due again before anyone has looked."""
    return row.number, row.at, row.attempts
