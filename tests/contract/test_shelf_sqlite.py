"""The shelf on SQLite keeps the port's contract, in a file and in memory, and its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.sqlite.database import Database
from torpor.adapters.sqlite.options import SqliteOptions
from torpor.adapters.sqlite.shelf import SqliteShelf
from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.testing.conformance.shelf import SharingConformance, ShelfConformance, passed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from torpor.ports.shelf import Shelf


class SqliteShelves:
    def __init__(self, path: str) -> None:
        self._path = path
        self._stores: list[SqliteStore] = []

    async def shelf(self) -> Shelf:
        store = SqliteStore(self._path, SystemClock())  # which two writers wait for each other by
        self._stores.append(store)
        await store.migrate({})
        await store.start()
        return store.shelf

    async def restart(self) -> None:
        for store in self._stores:
            await store.stop()

    async def absent(self) -> Shelf:
        shelf = await self.shelf()
        await self.restart()
        return shelf

    async def pass_time(self, seconds: float) -> None:
        await passed(seconds)


@pytest.fixture(params=["file", "memory"])
async def shelves(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteShelves]:
    """Shelves in one file, or each in memory."""
    shelves = SqliteShelves(":memory:" if request.param == "memory" else str(tmp_path / "store.db"))
    yield shelves
    await shelves.restart()


class TestShelf(ShelfConformance): ...


class TestSharing(SharingConformance): ...


async def test_the_table_is_bounded() -> None:
    """Now and then what is past its time is taken away, and the largest for which there is no room."""
    clock = VirtualClock()
    database = Database(":memory:", clock, SqliteOptions())
    await database.migrate({})
    await database.open()
    shelf = SqliteShelf(database, most_bytes=10_000, trim_every=5)
    await shelf.put("old", b"x", seconds=1)
    await clock.advance(2)
    for number in range(3):
        await shelf.put(f"small {number}", b"x" * 1000, seconds=60)
    await shelf.put("large", b"x" * 9000, seconds=60)
    left = [bytes(row[0]).decode() for row in await database.reader.read("SELECT key FROM torpor_shelf ORDER BY key")]
    assert left == ["small 0", "small 1", "small 2"]
    await database.close()
