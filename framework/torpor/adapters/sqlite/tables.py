"""Outbox log, parked messages, timers and leases on SQLite: read beside the writer, written in short transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.sqlite.queries import queries
from torpor.adapters.sqlite.rows import log_entry, parked_message, timer_of
from torpor.kernel.errors import LeaseLost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from torpor.adapters.sqlite.database import Database
    from torpor.kernel.message import ParkedMessage, Timer
    from torpor.ports.tables import LogEntry

_RELAY = "relay"  # the lease whose epoch guards the cursors
_CHUNK = 500  # rows to delete in one transaction, so that units need not wait long
_SCAN = 5_000


class SqliteOutbox:
    """The committed messages to publish. SQLite has one writer, so one shard."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, limit: int) -> Sequence[LogEntry]:
        """Rows past the relay's cursor, in order of position."""
        return [log_entry(row) for row in await self._database.reader.read(queries()["pending"], (limit,))]

    async def advance(self, positions: Mapping[int, int], epoch: int) -> None:
        """Moves the cursors, never back. Raises LeaseLost when the relay's epoch is another."""

        def move(connection: sqlite3.Connection) -> None:
            row = connection.execute(queries()["relay_epoch"], (_RELAY,)).fetchone()
            if row is None or row[0] != epoch:
                now = "nobody has taken it" if row is None else f"its epoch is {row[0]}"
                raise LeaseLost(f"The relay's lease of epoch {epoch} is lost: {now}. Acquire it before publishing.")
            connection.executemany(queries()["advance"], positions.items())

        # Lazy: when the machine dies a cursor may go back, and the messages are then published twice, as is promised.
        await self._database.write(move, is_lazy=True)

    async def trim(self, *, published: float, admitted: float) -> int:
        """Removes published rows, and ids from the inboxes, older than a time each; returns how many."""
        return await self._trim_outbox(published) + await self._trim_inbox(admitted)

    async def _trim_outbox(self, before: float) -> int:
        def remove(connection: sqlite3.Connection) -> int:
            return connection.execute(queries()["trim_outbox"], (before, _CHUNK)).rowcount

        total = removed = await self._database.write(remove, is_lazy=True)
        while removed == _CHUNK:
            removed = await self._database.write(remove, is_lazy=True)
            total += removed
        return total

    async def _trim_inbox(self, before: float) -> int:
        total = 0
        while True:
            old = await self._database.scan(queries()["old_inbox"], (before, _SCAN))
            for start in range(0, len(old), _CHUNK):
                total += await self._database.write_rows("trim_inbox", old[start : start + _CHUNK], is_lazy=True)
            if len(old) < _SCAN:
                return total


class SqliteParking:
    """The messages set aside, for the operator and the redriver."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        """Rows that may be tried again: first of their key in their binding, with a `due_at` that has come."""
        rows = await self._database.reader.read(queries()["due"], (now, limit))
        return [parked_message(row) for row in rows]

    async def list(
        self, *, binding: str | None = None, key: str | None = None, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        """Rows in order of their number."""
        rows = await self._database.reader.read(queries()["parked"], (binding, key, limit))
        return [parked_message(row) for row in rows]

    async def redrive(self, numbers: Sequence[int], at: float) -> int:
        """Makes parked rows due at a time; returns how many there were."""
        return await self._database.write_rows("redrive", [(number, at) for number in numbers])

    async def discard(self, numbers: Sequence[int]) -> int:
        """Deletes rows, so that what waits behind them may go on; returns how many there were."""
        return await self._database.write_rows("discard", [(number,) for number in numbers])

    async def count(self) -> Mapping[str, int]:
        """How many rows each binding has."""
        return dict(await self._database.reader.read(queries()["count_parked"]))


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


class SqliteLeases:
    """One holder at a time of a named duty."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Takes or renews the lease; returns its epoch, or None while another holds it."""
        now = self._database.clock.time()
        for held_by, expires_at in await self._database.reader.read(queries()["lease"], (name,)):
            if held_by not in (None, holder) and expires_at > now:
                return None  # the common answer, without the write lock

        def take(connection: sqlite3.Connection) -> int | None:
            now = self._database.clock.time()
            rows = connection.execute(queries()["acquire"], (name, holder, now, now + seconds)).fetchall()
            return rows[0][0] if rows else None

        return await self._database.write(take, is_lazy=True)

    async def release(self, name: str, holder: str) -> None:
        """Gives the lease up, if it is still held, so that another may take it at once."""
        await self._database.write(
            lambda connection: connection.execute(queries()["release"], (name, holder)), is_lazy=True
        )
