"""Timers on SQLite: read beside the writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.sqlite.queries import queries
from torpor.adapters.sqlite.rows import timer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.adapters.sqlite.database import Database
    from torpor.kernel.message import Timer


class SqliteTimers:
    """The messages that wait for their time."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[Timer]:
        """Timers whose time has come, in order of their times."""
        return [timer_of(row) for row in await self._database.reader.read(queries()["due_timers"], (now, limit))]

    async def next_due(self) -> float | None:
        """The time of the first timer, due or not; None when there is none."""
        ((first,),) = await self._database.reader.read(queries()["next_timer"])
        return None if first is None else float(first)
