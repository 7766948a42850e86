"""The table of parked messages. Proved by `torpor.testing.conformance.store_parking`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.message import ParkedMessage
    from torpor.kernel.parked import Inspection, ParkedQuery


class ParkingLot(Protocol):
    """The messages set aside. Units add and claim them; this is the operator's and the redriver's side.

    A query is answered by the store, without reading what it does not mean. One that is absent means every message.
    """

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        """Rows that may be tried again: first of their queue in their binding, with a `due_at` that has come."""
        ...

    async def list(
        self, query: ParkedQuery | None = None, *, after: int = 0, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        """Rows in order of their number, those above a number."""
        ...

    async def redrive(self, query: ParkedQuery, at: float) -> int:
        """Makes rows due at a time; returns how many. One that waits behind its queue is left as it is: it follows by
        itself. Large sets are done in several transactions, so that units go on in between."""
        ...

    async def discard(self, query: ParkedQuery) -> int:
        """Deletes rows, so that what waits behind them may go on; returns how many. In several transactions too."""
        ...

    async def count(self, query: ParkedQuery | None = None) -> Mapping[str, int]:
        """How many rows each binding has."""
        ...

    async def inspect(self, number: int) -> Inspection | None:
        """One row with its place and its history; None when there is none of that number."""
        ...

    async def edit(self, number: int, data: bytes, *, attributes: Mapping[str, str], at: float) -> bool:
        """Gives a row's message another payload and other attributes. It keeps its number, its id and its place, and
        its old payload is kept under its number for good. False when the row is gone, or just being handled."""
        ...
