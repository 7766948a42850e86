"""A partition in hand: what was handed out of it, what is done, and how far it may be committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Partition:
    """The deliveries of one partition, by their offsets, which may have gaps.

    `watermark` is the first offset that is not done: everything before it is, so it is what may be committed.
    """

    __slots__ = ("_abandoned", "_pending", "committed", "position")

    def __init__(self, position: int) -> None:
        self.position = position  # behind the last that was handed out
        self.committed = position
        self._pending: set[int] = set()
        self._abandoned = 0

    def take(self, offsets: Sequence[int]) -> None:
        """Hands some out, in order."""
        self._pending.update(offsets)
        self.position = offsets[-1] + 1

    def finish(self, offset: int) -> None:
        """Notes that one is done. One that is not in hand is none of ours any more."""
        self._pending.discard(offset)

    @property
    def watermark(self) -> int:
        return min(self._pending, default=self.position)

    @property
    def held(self) -> int:
        """How many are in hand and not done."""
        return len(self._pending) - self._abandoned

    def abandon(self) -> None:
        """Notes that one of those in hand will never be done here: it stays before the watermark."""
        self._abandoned += 1

    def advance(self, offset: int) -> None:
        """Notes that another consumer has settled everything before an offset."""
        self._pending = {other for other in self._pending if other >= offset}
        self.position = max(self.position, offset)
        self.committed = max(self.committed, offset)

    def __repr__(self) -> str:
        return f"<Partition at {self.position} committed={self.committed} held={self.held}>"
