"""The tables beside the units: outbox log, parked messages, leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.message import Message, ParkedMessage


class LogEntry:
    """One row of the outbox log."""

    __slots__ = ("message", "position", "shard")

    def __init__(self, shard: int, position: int, message: Message) -> None:
        self.shard = shard
        self.position = position
        self.message = message


class OutboxLog(Protocol):
    """The committed messages, append-only. No row is seen before one of its shard with a lower position."""

    async def pending(self, limit: int) -> Sequence[LogEntry]:
        """Rows past the relay's cursors, in order of position within each shard."""
        ...

    async def advance(self, positions: Mapping[int, int], epoch: int) -> None:
        """Moves the cursors (shard to position), never back. Raises LeaseLost when the relay's epoch is another."""
        ...

    async def trim(self, *, published: float, admitted: float) -> int:
        """Removes published rows, and ids from the inboxes, older than a time each; returns how many."""
        ...


class ParkingLot(Protocol):
    """The messages set aside. Units add and claim them; this is the operator's and the redriver's side."""

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        """Rows that may be tried again: first of their key in their binding, with a `due_at` that has come."""
        ...

    async def list(
        self, *, binding: str | None = None, key: str | None = None, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        """Rows in order of their number."""
        ...

    async def redrive(self, numbers: Sequence[int], at: float) -> int:
        """Makes parked rows due at a time; returns how many there were."""
        ...

    async def discard(self, numbers: Sequence[int]) -> int:
        """Deletes rows, so that what waits behind them may go on; returns how many there were."""
        ...

    async def count(self) -> Mapping[str, int]:
        """How many rows each binding has."""
        ...


class Leases(Protocol):
    """One holder at a time of a named duty. Each takeover raises the epoch, and an old epoch writes nothing."""

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Takes or renews the lease; returns its epoch, or None while another holds it."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Gives the lease up, if it is still held, so that another may take it at once."""
        ...
