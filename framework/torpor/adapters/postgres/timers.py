"""Timers on PostgreSQL: each call a transaction of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.postgres.rows import timer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.adapters.postgres.database import Database
    from torpor.kernel.message import Timer


class PostgresTimers:
    """The messages that wait for their time."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[Timer]:
        """Timers whose time has come, in order of their times."""
        return [timer(row) for row in await self._database.fetch(self._database.queries["due_timers"], now, limit)]

    async def next_due(self) -> float | None:
        """The time of the first timer, due or not; None when there is none."""
        rows = await self._database.fetch(self._database.queries["next_due"])
        first: float | None = rows[0][0]
        return first
