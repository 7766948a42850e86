"""New ids, from the time and the system's randomness."""

from __future__ import annotations

import secrets
import time

from torpor.kernel.ids import uuid7


def new_id() -> str:
    """A new id that sorts by the time it was made, to the millisecond: a UUID of version 7."""
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))
