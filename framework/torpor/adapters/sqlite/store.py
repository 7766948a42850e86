"""The SQLite store."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from torpor.adapters.sqlite.connection import MEMORY
from torpor.adapters.sqlite.database import Database
from torpor.adapters.sqlite.options import SqliteOptions
from torpor.adapters.sqlite.unit import SqliteUnit
from torpor.kernel.errors import ConfigurationError
from torpor.ports.store import StorePromises

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.sqlite.session import Lender
    from torpor.ports.clock import Clock
    from torpor.ports.hints import Hints
    from torpor.ports.leases import Leases
    from torpor.ports.outbox import OutboxLog
    from torpor.ports.parking import ParkingLot
    from torpor.ports.requests import Answers
    from torpor.ports.shelf import Shelf
    from torpor.ports.timers import Timers

_PARTS = frozenset({"answers", "hints", "leases", "outbox", "parking", "shelf", "timers"})
_OLDEST = (3, 35, 0)  # RETURNING


class SqliteStore:
    """One service's database in a SQLite file, or in memory with the path `:memory:`.

    Units of one process run one after the other; several processes may share the file.
    """

    outbox: OutboxLog
    parking: ParkingLot
    timers: Timers
    leases: Leases
    hints: Hints
    answers: Answers
    shelf: Shelf

    def __init__(self, path: str, clock: Clock, options: SqliteOptions | None = None) -> None:
        self._database = Database(path, clock, options or SqliteOptions())
        self._lender: Lender | None = None
        self.promises = StorePromises(is_durable=path != MEMORY, is_transactional=True, runs_sql=True)

    def __getattr__(self, name: str) -> Any:
        """What is not part of a unit is made when it is asked for: who wakes for one event needs none of it."""
        if name not in _PARTS:
            raise AttributeError(f"SqliteStore has no attribute {name!r}.")
        part = _part(name, self._database)
        setattr(self, name, part)
        return part

    def __repr__(self) -> str:
        return f"<SqliteStore {self._database.path}>"

    async def start(self) -> None:
        """Opens. Raises StoreUnavailable, or SchemaMismatch when `migrate` must come first or the tables are newer."""
        _check_version()
        await self._database.open()

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Brings the tables up to date: the framework's, then the service's own. Returns what was applied."""
        _check_version()
        return await self._database.migrate(own)

    def unit(self) -> SqliteUnit:
        """A unit; leaving it without a commit rolls back."""
        return SqliteUnit(self._database.writer, self._database.clock, self._lend)

    async def ping(self) -> None:
        """Reads from the file. Raises StoreUnavailable."""
        await self._database.reader.read("SELECT count(*) FROM torpor_migration")

    async def stop(self) -> None:
        """Closes; units under way are rolled back. Repeatable."""
        self._lender = None
        await self._database.close()

    def _lend(self) -> Lender:
        """What makes sessions: with the first of them, for it loads SQLAlchemy."""
        if self._lender is None:
            try:
                from torpor.adapters.sqlite.session import Lender
            except ImportError as error:
                raise ConfigurationError(["tx.session needs SQLModel. Install torpor[sql]."]) from error
            self._lender = Lender()
        return self._lender


def _part(name: str, database: Database) -> Any:  # noqa: PLR0911  # one for each part
    match name:
        case "outbox":
            from torpor.adapters.sqlite.outbox import SqliteOutbox

            return SqliteOutbox(database)
        case "parking":
            from torpor.adapters.sqlite.parking import SqliteParking

            return SqliteParking(database)
        case "timers":
            from torpor.adapters.sqlite.timers import SqliteTimers

            return SqliteTimers(database)
        case "leases":
            from torpor.adapters.sqlite.leases import SqliteLeases

            return SqliteLeases(database)
        case "hints":
            from torpor.adapters.sqlite.hints import NoHints

            return NoHints()
        case "shelf":
            from torpor.adapters.sqlite.shelf import SqliteShelf

            return SqliteShelf(database)
        case _:
            from torpor.adapters.sqlite.requests import SqliteAnswers

            return SqliteAnswers(database)


def _check_version() -> None:
    if sqlite3.sqlite_version_info < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise ConfigurationError(
            [f"SQLite {sqlite3.sqlite_version} is too old. Use a Python that is built with {oldest} or later."]
        )
