"""The shelf in memory: one process alone has it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torpor.ports.shelf import ABSENT, Placed, ShelfPromises, check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.ports.clock import Clock

MOST_BYTES = 67_108_864
_OVERHEAD = 300  # bytes of an entry beside its key and value


class MemoryShelf:
    """Keeps so many bytes; what was not asked for the longest gives way."""

    def __init__(self, clock: Clock, *, most_bytes: int = MOST_BYTES) -> None:
        self.promises = ShelfPromises(is_shared=False, is_persistent=False, resolution=0.0)
        self._clock = clock
        self._most = most_bytes
        self._size = 0
        self._last = ABSENT
        self._entries: OrderedDict[str, tuple[Placed, float]] = OrderedDict()  # and when its time is over

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        return {key: placed for key in keys if (placed := self._look(key)) is not None}

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        check_size(key, value)
        if revision is not None:
            there = self._look(key)
            if revision != (ABSENT if there is None else there.revision):
                return None
        self._take(key)
        self._last += 1
        self._entries[key] = Placed(value, self._last), self._clock.time() + seconds
        self._size += _size_of(key, value)
        while self._size > self._most:
            self._take(next(iter(self._entries)))
        return self._last

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._take(key)

    def _look(self, key: str) -> Placed | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock.time():
            self._take(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _take(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= _size_of(key, entry[0].value)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<MemoryShelf {len(self._entries)} values, {self._size} bytes>"


def _size_of(key: str, value: bytes) -> int:
    return _OVERHEAD + len(key) + len(value)
