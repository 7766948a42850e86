"""New ids: UUIDs of version 7, from the time and the system's randomness. They keep an index's tail hot."""

from __future__ import annotations

import os
import time
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNTED = 12  # bits that count the ids of one millisecond
_VERSION = 7 << _COUNTED
_VARIANT = 2 << 14
_RANDOM = 8  # bytes of each id
_AT_ONCE = 32  # ids


class Ids:
    """Makes ids that sort in the order in which this process made them."""

    __slots__ = ("_last", "_lock", "_millisecond", "_now", "_rest", "_start")

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._lock = Lock()
        self._last = 0  # the time in milliseconds and the count within it, as one number
        self._millisecond = -1
        self._start = ""  # of the ids of that millisecond
        self._rest: list[str] = []  # the random ends of the next ids: to make one by itself costs as much as the rest

    def new(self) -> str:
        """The next id, in any thread. When a millisecond's count is used up it goes on in the next one."""
        with self._lock:
            last = self._last = max(self._last + 1, self._now() // 1_000_000 << _COUNTED)
            millisecond = last >> _COUNTED
            if millisecond != self._millisecond:
                self._millisecond = millisecond
                self._start = f"{millisecond >> 16 & 0xFFFF_FFFF:08x}-{millisecond & 0xFFFF:04x}"
            if not self._rest:
                self._rest = _ends(os.urandom(_RANDOM * _AT_ONCE))
            return f"{self._start}-{_VERSION | last & 0xFFF:04x}-{self._rest.pop()}"

    def forget(self) -> None:
        """Uses none of the randomness that is left: the process has been forked, and its parent will."""
        self._lock = Lock()  # a thread of the parent may hold the other
        self._rest = []


def _ends(random: bytes) -> list[str]:
    """The ends of ids: the variant, and 62 random bits."""
    parts = [random[at : at + _RANDOM] for at in range(0, len(random), _RANDOM)]
    return [f"{_VARIANT | int.from_bytes(part[:2]) & 0x3FFF:04x}-{part[2:].hex()}" for part in parts]


_ids = Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.forget)


def new_id() -> str:
    """A new id that sorts after those this process made before: a UUID of version 7."""
    return _ids.new()
