"""The shelf in memory keeps the port's contract, and its bounds."""

from __future__ import annotations

import pytest

from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.shelf import MemoryShelf
from torpor.testing.conformance.shelf import SharingConformance, ShelfConformance


class MemoryShelves:
    def __init__(self) -> None:
        self._clock = VirtualClock()

    async def shelf(self) -> MemoryShelf:
        return MemoryShelf(self._clock)

    async def restart(self) -> None: ...

    async def absent(self) -> MemoryShelf:
        pytest.skip("not promised: memory is always there")

    async def pass_time(self, seconds: float) -> None:
        await self._clock.advance(seconds)


@pytest.fixture
def shelves() -> MemoryShelves:
    """Shelves, each of a process of its own."""
    return MemoryShelves()


class TestShelf(ShelfConformance): ...


class TestSharing(SharingConformance): ...


async def test_what_was_not_asked_for_the_longest_gives_way() -> None:
    """The bytes are bounded: asking for a value keeps it, and a removed or expired one makes room."""
    clock = VirtualClock()
    shelf = MemoryShelf(clock, most_bytes=10_000)
    for key in ("a", "b", "c"):
        await shelf.put(key, b"x" * 2500, seconds=60)
    await shelf.find(["a"])
    await shelf.put("d", b"x" * 2500, seconds=60)
    assert list(await shelf.find(["a", "b", "c", "d"])) == ["a", "c", "d"]
    await shelf.remove(["c"])
    await shelf.put("e", b"x" * 2500, seconds=60)
    assert len(shelf) == 3
    await shelf.put("f", b"x" * 20_000, seconds=60)
    assert len(shelf) == 0
