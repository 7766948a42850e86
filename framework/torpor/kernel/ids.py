"""Message ids: UUID version 7, which sort by time and keep an index's tail hot."""

from __future__ import annotations

_VERSION = 7 << 76
_VARIANT = 2 << 62


def uuid7(milliseconds: int, entropy: int) -> str:
    """A version 7 UUID from a time in milliseconds and at least 74 bits of randomness."""
    high = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value = high | _VERSION | (((entropy >> 62) & 0xFFF) << 64) | _VARIANT | (entropy & 0x3FFF_FFFF_FFFF_FFFF)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
