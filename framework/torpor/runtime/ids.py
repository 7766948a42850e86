"""New ids, from the time and the system's randomness."""

from __future__ import annotations

import secrets
import time

from torpor.kernel.ids import uuid7

_COUNTED = 12  # bits that count the ids of one millisecond
_RANDOM = 62


class Ids:
    """Makes ids that sort in the order in which this process made them."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0  # the time in milliseconds and the count within it, as one number

    def new(self) -> str:
        """The next id. When a millisecond's count is used up it goes on in the next one."""
        self._last = max(self._last + 1, (time.time_ns() // 1_000_000) << _COUNTED)
        milliseconds, count = self._last >> _COUNTED, self._last & ((1 << _COUNTED) - 1)
        return uuid7(milliseconds, count << _RANDOM | secrets.randbits(_RANDOM))


_ids = Ids()


def new_id() -> str:
    """A new id that sorts after those this process made before: a UUID of version 7."""
    return _ids.new()
