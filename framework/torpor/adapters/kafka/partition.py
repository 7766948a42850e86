"""A partition in hand: what was handed out of it, what is done, and how far it may be committed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Partition:
    """The deliveries of one partition, in the order of their offsets, which may have gaps.

    `watermark` is the first offset that is not done: everything before it is, so it is what may be committed.
    """

    __slots__ = ("_abandoned", "_done", "_pending", "committed", "position")

    def __init__(self, position: int) -> None:
        self.position = position  # behind the last that was handed out
        self.committed = position
        self._pending: deque[int] = deque()
        self._done: set[int] = set()
        self._abandoned = 0

    def take(self, offsets: Sequence[int]) -> None:
        """Hands some out, in order."""
        self._pending.extend(offsets)
        self.position = offsets[-1] + 1

    def finish(self, offset: int) -> None:
        """Notes that one is done. One that is not in hand is none of ours any more."""
        pending = self._pending
        if not pending or offset < pending[0]:
            return
        if offset != pending[0]:
            self._done.add(offset)
            return
        pending.popleft()
        done = self._done
        while pending and pending[0] in done:
            done.discard(pending.popleft())

    @property
    def watermark(self) -> int:
        return self._pending[0] if self._pending else self.position

    @property
    def held(self) -> int:
        """How many are in hand and not done."""
        return len(self._pending) - len(self._done) - self._abandoned

    def abandon(self) -> None:
        """Notes that one of those in hand will never be done here: it stays before the watermark."""
        self._abandoned += 1

    def advance(self, offset: int) -> None:
        """Notes that another consumer has settled everything before an offset."""
        while self._pending and self._pending[0] < offset:
            self._done.discard(self._pending.popleft())
        self.position = max(self.position, offset)
        self.committed = max(self.committed, offset)

    def __repr__(self) -> str:
        return f"<Partition at {self.position} committed={self.committed} held={self.held}>"
