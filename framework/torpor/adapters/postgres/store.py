"""The PostgreSQL store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.postgres.address import Address
from torpor.adapters.postgres.database import Database
from torpor.adapters.postgres.hints import PostgresHints
from torpor.adapters.postgres.leases import PostgresLeases
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.outbox import PostgresOutbox
from torpor.adapters.postgres.parking import PostgresParking
from torpor.adapters.postgres.requests import PostgresAnswers
from torpor.adapters.postgres.timers import PostgresTimers
from torpor.adapters.postgres.unit import PostgresUnit
from torpor.kernel.errors import ConfigurationError
from torpor.ports.store import StorePromises

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.postgres.session import Lender
    from torpor.ports.clock import Clock
    from torpor.ports.hints import Hints
    from torpor.ports.leases import Leases
    from torpor.ports.outbox import OutboxLog
    from torpor.ports.parking import ParkingLot
    from torpor.ports.requests import Answers
    from torpor.ports.shelf import Shelf
    from torpor.ports.timers import Timers


class PostgresStore:
    """One service's database on a PostgreSQL server.

    Units run side by side on a few connections. Nothing is held on a connection between transactions, so a pooler in
    transaction mode may stand before the server.
    """

    __slots__ = (
        "_database", "_hints", "_lender", "_plain", "_shelf",
        "answers", "hints", "leases", "outbox", "parking", "promises", "timers",
    )  # fmt: skip

    def __init__(self, dsn: str, clock: Clock, options: PostgresOptions | None = None) -> None:
        self._database = Database(Address(dsn), clock, options or PostgresOptions())
        self._lender: Lender | None = None
        self._plain: set[str] = set()
        self._shelf: Shelf | None = None
        self.promises = StorePromises(is_durable=True, is_transactional=True, runs_sql=True)
        self.outbox: OutboxLog = PostgresOutbox(self._database)
        self.parking: ParkingLot = PostgresParking(self._database)
        self.timers: Timers = PostgresTimers(self._database)
        self.leases: Leases = PostgresLeases(self._database)
        self._hints = PostgresHints(self._database)
        self.hints: Hints = self._hints
        self.answers: Answers = PostgresAnswers(self._database)

    def __repr__(self) -> str:
        return f"<PostgresStore {self._database.address.place}>"

    @property
    def shelf(self) -> Shelf:
        """The shelf in this database."""
        if self._shelf is None:
            from torpor.adapters.postgres.shelf import PostgresShelf

            self._shelf = PostgresShelf(self._database)
        return self._shelf

    async def start(self) -> None:
        """Opens. Raises StoreUnavailable, or SchemaMismatch when `migrate` must come first or the tables are newer."""
        await self._database.open()

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Brings the tables up to date: the framework's, then the service's own. Returns what was applied."""
        return await self._database.migrate(own)

    def unit(self) -> PostgresUnit:
        """A unit; leaving it without a commit rolls back."""
        return PostgresUnit(self._database, self._plain, self._lend)

    async def ping(self) -> None:
        """Asks the server for an answer. Raises StoreUnavailable."""
        await self._database.fetch("SELECT 1")

    async def stop(self) -> None:
        """Closes; units under way are rolled back. Repeatable."""
        self._lender = None
        await self._hints.stop()
        await self._database.close()

    def _lend(self) -> Lender:
        """What makes sessions: with the first of them, for it loads SQLAlchemy."""
        if self._lender is None:
            try:
                from torpor.adapters.postgres.session import Lender
            except ImportError as error:
                raise ConfigurationError(["tx.session needs SQLModel. Install torpor[sql]."]) from error
            self._lender = Lender(is_pooled=self._database.options.is_pooled)
        return self._lender
