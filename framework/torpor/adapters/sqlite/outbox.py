"""The outbox log on SQLite: read beside the writer, written in short transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.adapters.sqlite.queries import queries
from torpor.adapters.sqlite.rows import log_entry, parked_row
from torpor.kernel.errors import LeaseLost
from torpor.ports.outbox import LogState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from torpor.adapters.sqlite.database import Database
    from torpor.kernel.message import ParkedMessage
    from torpor.ports.outbox import LogEntry

_SHARD = 0
_KEEPER = "keeper"  # the lease whose epoch guards the cursor
_CHUNK = 500  # rows to delete in one transaction, so that units need not wait long
_SCAN = 5_000


class SqliteOutbox:
    """The committed messages to publish. SQLite has one writer, so one shard."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        """Rows past the relay's cursor, in order of position. Raises LeaseLost when the epoch is another by now."""
        rows = await self._database.reader.read(queries()["pending"], (limit, (past or {}).get(_SHARD, 0)))
        if rows and epoch is not None:
            _check(await self._database.reader.read(queries()["keeper_epoch"], (_KEEPER,)), epoch)
        return [log_entry(row) for row in rows]

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        """Moves the cursors, never back, and parks what was refused. Raises LeaseLost when the epoch is another."""

        def move(connection: sqlite3.Connection) -> None:
            _check(connection.execute(queries()["keeper_epoch"], (_KEEPER,)).fetchall(), epoch)
            connection.executemany(queries()["advance"], positions.items())
            connection.executemany(queries()["park"], [parked_row(row) for row in parked])

        # Lazy: when the machine dies a cursor may go back, and the messages are then published twice, as is promised.
        # What is parked goes back with it.
        await self._database.write(move, is_lazy=True)

    async def trim(self, *, published: float, admitted: float) -> None:
        """Removes published rows, and ids from the inboxes, older than a time each."""
        await self._trim_outbox(published)
        await self._trim_inbox(admitted)

    async def state(self) -> LogState:
        """Counts the log."""
        ((kept, kept_since, waiting, waiting_since, cursor),) = await self._database.reader.read(queries()["log_state"])
        return LogState(
            kept=kept, kept_since=kept_since, waiting=waiting, waiting_since=waiting_since, cursors={0: cursor}
        )

    async def published_since(self, since: float, topic: str | None = None) -> Mapping[str, int]:
        """How many rows of each topic a replay would publish again."""
        return dict(await self._database.reader.read(queries()["published_since"], (since, topic)))

    async def replay(self, since: float, topic: str | None = None) -> None:
        """Moves the cursor back to before the first row of that time, and raises the keeper's epoch."""

        def rewind(connection: sqlite3.Connection) -> None:
            connection.execute(queries()["raise_epoch"], (_KEEPER,))
            connection.execute(queries()["rewind"], (since, topic))

        await self._database.write(rewind)

    async def _trim_outbox(self, before: float) -> None:
        def remove(connection: sqlite3.Connection) -> int:
            return connection.execute(queries()["trim_outbox"], (before, _CHUNK)).rowcount

        while await self._database.write(remove, is_lazy=True) == _CHUNK:
            pass

    async def _trim_inbox(self, before: float) -> None:
        while True:
            old = await self._database.scan(queries()["old_inbox"], (before, _SCAN))
            for start in range(0, len(old), _CHUNK):
                await self._database.write_rows("trim_inbox", old[start : start + _CHUNK], is_lazy=True)
            if len(old) < _SCAN:
                return


def _check(rows: Sequence[Any], epoch: int) -> None:
    """Raises LeaseLost unless the keeper's lease has the epoch."""
    if not rows or rows[0][0] != epoch:
        now = f"its epoch is {rows[0][0]}" if rows else "nobody has taken it"
        raise LeaseLost(f"The keeper's lease of epoch {epoch} is lost: {now}. Acquire it before publishing.")
