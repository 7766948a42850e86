"""The store's port: units, and the tables around them. Proved by `torpor.testing.conformance.store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from torpor.ports.hints import Hints
    from torpor.ports.leases import Leases
    from torpor.ports.outbox import OutboxLog
    from torpor.ports.parking import ParkingLot
    from torpor.ports.requests import Answers
    from torpor.ports.timers import Timers
    from torpor.ports.unit import Unit


class StorePromises:
    """What an adapter promises; the conformance suite shows each, or skips what is not promised."""

    __slots__ = ("is_durable", "is_transactional", "runs_sql")

    def __init__(self, *, is_durable: bool, is_transactional: bool, runs_sql: bool) -> None:
        self.is_durable = is_durable  # a commit outlives the process
        self.is_transactional = is_transactional  # a unit's effects are all there or none; the inbox remembers
        self.runs_sql = runs_sql  # tx.execute, tx.fetch, tx.write and tx.session work


class Store(Protocol):
    """One service's database."""

    promises: StorePromises
    outbox: OutboxLog
    parking: ParkingLot
    timers: Timers
    leases: Leases
    hints: Hints
    answers: Answers

    async def start(self) -> None:
        """Opens. Raises StoreUnavailable, or SchemaMismatch when `migrate` must come first or the tables are newer."""
        ...

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Brings the tables up to date: the framework's, then the service's own (name to SQL, in order of name).
        Returns what was applied. Repeatable, and safe with two at once. Opens and closes by itself."""
        ...

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """Opens a unit; leaving it without a commit rolls back. Raises StoreUnavailable."""
        ...

    async def ping(self) -> None:
        """Asks the database for a sign of life. Raises StoreUnavailable."""
        ...

    async def stop(self) -> None:
        """Closes; units under way are rolled back. Repeatable."""
        ...
