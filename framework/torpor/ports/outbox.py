"""The outbox log's port: what was committed and is to be published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.message import Message, ParkedMessage


class LogEntry:
    """One row of the outbox log. One that a replay of another topic passes over is left out of it."""

    __slots__ = ("is_left_out", "message", "position", "shard")

    def __init__(self, shard: int, position: int, message: Message, *, is_left_out: bool = False) -> None:
        self.shard = shard
        self.position = position
        self.message = message
        self.is_left_out = is_left_out


class LogState:
    """What an operator wants to know of the log. Times are of the oldest row, None when there is none."""

    __slots__ = ("cursors", "kept", "kept_since", "waiting", "waiting_since")

    def __init__(
        self,
        *,
        kept: int,
        kept_since: float | None,
        waiting: int,
        waiting_since: float | None,
        cursors: Mapping[int, int],
    ) -> None:
        self.kept = kept
        self.kept_since = kept_since
        self.waiting = waiting
        self.waiting_since = waiting_since
        self.cursors = cursors


class OutboxLog(Protocol):
    """The committed messages, append-only. No row is seen before one of its shard with a lower position."""

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        """Rows past the relay's cursors, in order of position within each shard, and past those (shard to position)
        that are on their way already. Raises LeaseLost when an epoch is given and the keeper's is another: a relay
        that was frozen does not know which keys are held by now."""
        ...

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        """Moves the cursors (shard to position), never back, and parks what was refused on the way: both or nothing.
        Raises LeaseLost when the keeper's epoch is another."""
        ...

    async def trim(self, *, published: float, admitted: float) -> None:
        """Removes rows that were published, and ids from the inboxes, once they are older than a time each. A store
        that removes published rows by the part may keep them until the whole part is old."""
        ...

    async def state(self) -> LogState:
        """Counts the log. It may read all of it."""
        ...

    async def published_since(self, since: float, topic: str | None = None) -> Mapping[str, int]:
        """How many rows of each topic a replay would publish again. It may read all of the log."""
        ...

    async def replay(self, since: float, topic: str | None = None) -> None:
        """Moves the cursors back to before the first row of that time, and raises the keeper's epoch, so that a relay
        under way notices. With a topic the other topics' rows, up to where the cursors were, are left out."""
        ...
