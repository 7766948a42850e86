"""Which numbers make trouble: known alike to the services and to the ledger outside them."""

from __future__ import annotations

from zlib import crc32

REMIND_EVERY = 10
POISON_EVERY = 800


def is_reminded(number: int) -> bool:
    """Whether the sink sets a timer for a number."""
    return number % REMIND_EVERY == 0


def is_poisoned(key: str, number: int) -> bool:
    """Whether the tail fails for a number until its key is mended."""
    return crc32(f"{key}/{number}".encode()) % POISON_EVERY == 0
