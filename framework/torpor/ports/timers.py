"""The timers' table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Timer


class Timers(Protocol):
    """The messages that wait for their time. Units add and cancel them; firing one is cancelling it and appending its
    message to the outbox log, in one unit."""

    async def due(self, now: float, limit: int) -> Sequence[Timer]:
        """Timers whose time has come, in order of their times."""
        ...

    async def next_due(self) -> float | None:
        """The time of the first timer, due or not; None when there is none."""
        ...
