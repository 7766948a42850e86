"""The shelf on PostgreSQL keeps the port's contract on a real server, and its bounds."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.shelf import PostgresShelf
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.testing.conformance.shelf import SharingConformance, ShelfConformance, passed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.postgres_server import PostgresServer
    from torpor.ports.shelf import Shelf

_schemas = count(1)


class PostgresShelves:
    def __init__(self, url: str, *, is_pooled: bool) -> None:
        self._url = url
        self._options = PostgresOptions(schema=f"shelf {next(_schemas)}", is_pooled=is_pooled)
        self._stores: list[PostgresStore] = []

    async def store(self) -> PostgresStore:
        store = PostgresStore(self._url, SystemClock(), self._options)
        self._stores.append(store)
        await store.migrate({})
        await store.start()
        return store

    async def shelf(self) -> Shelf:
        return (await self.store()).shelf

    async def restart(self) -> None:
        for store in self._stores:
            await store.stop()

    async def absent(self) -> Shelf:
        shelf = await self.shelf()
        await self.restart()
        return shelf

    async def pass_time(self, seconds: float) -> None:
        await passed(seconds)


@pytest.fixture(params=["direct", "pooled"])
async def shelves(request: pytest.FixtureRequest, postgres: PostgresServer) -> AsyncIterator[PostgresShelves]:
    """Shelves in one schema, asked as without a pooler and as behind one."""
    shelves = PostgresShelves(postgres.url(), is_pooled=request.param == "pooled")
    yield shelves
    await shelves.restart()


class TestShelf(ShelfConformance): ...


class TestSharing(SharingConformance): ...


async def test_the_table_is_bounded(shelves: PostgresShelves) -> None:
    """Now and then what is past its time is taken away, and the largest for which there is no room."""
    database = (await shelves.store())._database
    shelf = PostgresShelf(database, most_bytes=10_000, trim_every=5)
    await shelf.put("old", b"x", seconds=0.01)
    await shelves.pass_time(0.1)
    for number in range(3):
        await shelf.put(f"small {number}", b"x" * 1000, seconds=60)
    await shelf.put("large", b"x" * 9000, seconds=60)
    schema = database.options.schema
    rows = await database.fetch(f'SELECT key FROM "{schema}".torpor_shelf ORDER BY key')
    assert [row[0] for row in rows] == [b"small 0", b"small 1", b"small 2"]
