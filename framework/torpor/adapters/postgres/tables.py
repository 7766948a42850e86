"""Outbox log, parked messages, timers and leases on PostgreSQL: each call a transaction of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.postgres.rows import log_entry, parked_message, timer
from torpor.adapters.postgres.text import indexed, read, stored
from torpor.kernel.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.postgres.database import Database
    from torpor.kernel.message import ParkedMessage, Timer
    from torpor.ports.tables import LogEntry

_CHUNK = 500  # rows of a shard to delete in one transaction
_SCAN = 5_000


class PostgresOutbox:
    """The committed messages to publish, in shards that each have an order."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, limit: int) -> Sequence[LogEntry]:
        """Rows past the relay's cursors, in order of position."""
        return [log_entry(row) for row in await self._database.fetch(self._database.pending, limit)]

    async def advance(self, positions: Mapping[int, int], epoch: int) -> None:
        """Moves the cursors, never back. Raises LeaseLost when the relay's epoch is another."""
        named = self._database.queries
        rows = await self._database.fetch(named["advance"], list(positions), list(positions.values()), epoch)
        if rows[0][0] == 1:
            return
        held = await self._database.fetch(named["relay_epoch"])
        now = f"its epoch is {held[0][0]}" if held else "nobody has taken it"
        raise LeaseLost(f"The relay's lease of epoch {epoch} is lost: {now}. Acquire it before publishing.")

    async def trim(self, *, published: float, admitted: float) -> int:
        """Removes published rows, and ids from the inboxes, older than a time each; returns how many."""
        named = self._database.queries
        removed = await self._database.remove(named["trim_outbox"], published, _CHUNK)
        return removed + await self._database.remove(named["trim_inbox"], admitted, _SCAN)


class PostgresParking:
    """The messages set aside, for the operator and the redriver."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        """Rows that may be tried again: first of their key in their binding, with a `due_at` that has come."""
        return [parked_message(row) for row in await self._database.fetch(self._database.queries["due"], now, limit)]

    async def list(
        self, *, binding: str | None = None, key: str | None = None, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        """Rows in order of their number."""
        rows = await self._database.fetch(
            self._database.queries["parked"],
            None if binding is None else stored(binding),
            None if key is None else indexed(key),
            limit,
        )
        return [parked_message(row) for row in rows]

    async def redrive(self, numbers: Sequence[int], at: float) -> int:
        """Makes parked rows due at a time; returns how many there were. One that is just being handled is none."""
        return await self._database.execute(self._database.queries["redrive"], numbers, at)

    async def discard(self, numbers: Sequence[int]) -> int:
        """Deletes rows, so that what waits behind them may go on; returns how many there were. One that is just being
        handled is none."""
        return await self._database.execute(self._database.queries["discard"], numbers)

    async def count(self) -> Mapping[str, int]:
        """How many rows each binding has."""
        rows = await self._database.fetch(self._database.queries["count_parked"])
        return {read(binding): count for binding, count in rows}


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


class PostgresLeases:
    """One holder at a time of a named duty, by the database's clock."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Takes or renews the lease; returns its epoch, or None while another holds it."""
        rows = await self._database.fetch(self._database.queries["acquire"], stored(name), stored(holder), seconds)
        epoch: int | None = rows[0][0] if rows else None
        return epoch

    async def release(self, name: str, holder: str) -> None:
        """Gives the lease up, if it is still held, so that another may take it at once."""
        await self._database.execute(self._database.queries["release"], stored(name), stored(holder))
