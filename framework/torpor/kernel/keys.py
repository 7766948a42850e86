"""Keys, lanes and shards. One hash for both: what shares a lane shares a shard."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torpor.kernel.message import Message


def slot_of(message: Message, slots: int) -> int:
    """The lane or shard of a message: by its key, or spread by its id when it has none."""
    text = message.id if message.key is None else message.key
    return crc32(text.encode("utf-8", "surrogatepass")) % slots


def slot_of_text(text: str, slots: int) -> int:
    """The lane or shard of a key or an id."""
    return crc32(text.encode("utf-8", "surrogatepass")) % slots


def slots_of(texts: Iterable[str], slots: int) -> list[int]:
    """The lanes or shards of keys and ids."""
    return [crc32(text.encode("utf-8", "surrogatepass")) % slots for text in texts]
