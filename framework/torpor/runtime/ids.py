"""New ids, from the time and the system's randomness."""

from __future__ import annotations

import os
import time

from torpor.kernel.ids import uuid7

_COUNTED = 12  # bits that count the ids of one millisecond
_RANDOM = 62
_AT_ONCE = 256  # bytes


class Ids:
    """Makes ids that sort in the order in which this process made them."""

    __slots__ = ("_last", "_left")

    def __init__(self) -> None:
        self._last = 0  # the time in milliseconds and the count within it, as one number
        self._left = b""  # of the system's randomness: to ask for it costs as much as the rest of an id

    def new(self) -> str:
        """The next id. When a millisecond's count is used up it goes on in the next one."""
        self._last = max(self._last + 1, (time.time_ns() // 1_000_000) << _COUNTED)
        milliseconds, count = self._last >> _COUNTED, self._last & ((1 << _COUNTED) - 1)
        if not self._left:
            self._left = os.urandom(_AT_ONCE)
        entropy, self._left = self._left[:8], self._left[8:]
        return uuid7(milliseconds, count << _RANDOM | int.from_bytes(entropy) >> (64 - _RANDOM))

    def forget(self) -> None:
        """Uses none of the randomness that is left: the process has been forked, and its parent will."""
        self._left = b""


_ids = Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.forget)


def new_id() -> str:
    """A new id that sorts after those this process made before: a UUID of version 7."""
    return _ids.new()
