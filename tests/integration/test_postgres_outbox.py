"""The outbox log on PostgreSQL: parts that take turns, the cleanup that leaves nothing, upgrades, and hints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.postgres_server import administer, blocks_read, eventually
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.queries import text
from torpor.adapters.postgres.store import PostgresStore
from torpor.kernel.errors import StoreUnavailable
from torpor.testing.conformance.store import DEADLINE, committed, last_of, message, parked, pending_ids, relay_lease

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.postgres_server import PostgresServer

DAY = 86_400.0


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    """The address of a new database."""
    name = f"outbox_{uuid4().hex}"
    await administer(postgres.url(), f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture
def clock() -> VirtualClock:
    """What the rows' times come from."""
    return VirtualClock()


@pytest.fixture
async def stores(url: str, clock: VirtualClock) -> AsyncIterator[Callable[..., PostgresStore]]:
    """Makes stores on the database, which are stopped after the test."""
    made: list[PostgresStore] = []

    def make(**options: Any) -> PostgresStore:
        made.append(PostgresStore(url, clock, PostgresOptions(**options)))
        return made[-1]

    yield make
    for store in made:
        await store.stop()


@pytest.fixture
async def store(stores: Callable[..., PostgresStore]) -> PostgresStore:
    """A started store."""
    store = stores()
    await store.migrate({})
    await store.start()
    return store


async def asked(url: str, query: str) -> Any:
    """One value, past the adapter."""
    connection = await asyncpg.connect(url)
    value = await connection.fetchval(query)
    await connection.close()
    return value


async def published(store: PostgresStore, epoch: int, *ids: str) -> None:
    """Commits messages and moves the cursors past them."""
    await committed(store, *(message(id, key=id) for id in ids))
    await store.outbox.advance(last_of(await store.outbox.pending(1000)), epoch)


async def tended(store: PostgresStore, clock: VirtualClock) -> None:
    """One round of the cleanup, with a window of a day."""
    await store.outbox.trim(published=clock.time() - DAY, admitted=0)


async def test_the_log_lives_in_parts_that_take_turns(store: PostgresStore, clock: VirtualClock, url: str) -> None:
    """Over a week, what is kept is between one and two windows, each part is used, and nothing dead is left."""
    epoch = await relay_lease(store)
    used = set()
    for hour in range(7 * 24):
        await published(store, epoch, f"{hour}a", f"{hour}b")
        await clock.advance(3600)
        await tended(store, clock)
        used.add(await asked(url, "SELECT part FROM torpor_turn"))
        kept = (await store.outbox.state()).kept
        assert kept <= 2 * 2 * 24
        assert kept >= min(2 * (hour + 1), 2 * 24)
        epoch = await relay_lease(store)

    assert used == {0, 1, 2, 3}
    await administer(url, "ANALYZE")
    dead = "SELECT sum(n_tup_del + n_tup_upd) FROM pg_stat_user_tables WHERE relname LIKE 'torpor_outbox%'"
    assert await asked(url, dead) == 0


async def test_what_waits_is_never_removed(store: PostgresStore, clock: VirtualClock) -> None:
    """However old, an unpublished row stays, and so does its part; the turns go on around it, and all is in order."""
    epoch = await relay_lease(store)
    await published(store, epoch, "first")
    await committed(store, message("stays", key="k"))
    for day in range(5):
        await clock.advance(DAY)
        await tended(store, clock)
        await committed(store, message(f"day {day}", key="k"))
        await clock.advance(DAY)
        await tended(store, clock)

    assert await pending_ids(store) == ["stays", *(f"day {day}" for day in range(5))]
    await store.outbox.advance(last_of(await store.outbox.pending(100)), await relay_lease(store))
    await clock.advance(2 * DAY)
    await tended(store, clock)
    assert (await store.outbox.state()).kept == 0


async def test_a_part_in_use_is_left_for_the_next_time(store: PostgresStore, clock: VirtualClock, url: str) -> None:
    """The cleanup gives way to whoever holds a lock on a part, and takes up where it left off."""
    await published(store, await relay_lease(store), "1")
    await clock.advance(2 * DAY)
    reader = await asyncpg.connect(url)
    async with asyncio.timeout(DEADLINE), reader.transaction():
        await reader.fetchval("SELECT count(*) FROM torpor_outbox")
        await tended(store, clock)
        assert (await store.outbox.state()).kept == 1
        await published(store, await relay_lease(store), "2")
    await reader.close()

    await clock.advance(2 * DAY)
    await tended(store, clock)
    assert (await store.outbox.state()).kept == 0


async def test_a_clock_that_jumped_holds_no_part_for_ever(store: PostgresStore, clock: VirtualClock) -> None:
    """A row from years ahead tells nothing of its age; it goes with its part."""
    epoch = await relay_lease(store)
    await published(store, epoch, "1")
    now, clock._now = clock._now, clock._now + 3650 * DAY
    await published(store, epoch, "2")
    clock._now = now + 2 * DAY
    await tended(store, clock)

    assert (await store.outbox.state()).kept == 0


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_no_row_comes_late_into_a_part(
    stores: Callable[..., PostgresStore], store: PostgresStore, clock: VirtualClock, isolation: str
) -> None:
    """While turns are given under two writers, the relay reads every row, once, in order of position."""
    writers = [stores(isolation=isolation) for _ in range(2)]
    for writer in writers:
        await writer.start()
    epoch = await relay_lease(store)
    seen: list[str] = []
    written: list[str] = []

    async def write(writer: PostgresStore, lane: str) -> None:
        for number in range(60):
            for _ in range(20):
                try:
                    async with writer.unit() as unit:
                        await unit.statements.fetch("SELECT 1 AS one", ())
                        await asyncio.sleep(0)
                        await unit.append([message(f"{lane}{number}", key=lane)], [])
                        await unit.commit()
                    break
                except StoreUnavailable:
                    continue  # a stricter isolation refuses, and wants to be asked again
            written.append(f"{lane}{number}")

    async def read(writing: asyncio.Future[Any]) -> None:
        while True:
            is_over = writing.done()
            entries = await store.outbox.pending(7)
            seen.extend(entry.message.id for entry in entries)
            await store.outbox.advance(last_of(entries), epoch)
            clock._now += DAY
            await tended(store, clock)
            if is_over and not entries:
                return

    async with asyncio.timeout(2 * DEADLINE):
        writing = asyncio.gather(*(write(writers[n % 2], lane) for n, lane in enumerate("abcd")))
        await asyncio.gather(writing, read(writing))

    assert len(written) == 240
    assert sorted(seen) == sorted(written)
    for lane in "abcd":
        assert [id for id in seen if id[0] == lane] == [f"{lane}{number}" for number in range(60)]


async def test_a_log_with_rows_is_upgraded(url: str, stores: Callable[..., PostgresStore]) -> None:
    """The table that there was becomes the first part: rows, cursors and the epoch of the lease stay."""
    connection = await asyncpg.connect(url)
    await connection.execute(text("0001_core.sql"))
    await connection.execute(
        "SELECT torpor_append_one(3, 'k', 't', 'y', n::text, '{}', 'x', 5) FROM generate_series(1, 10) AS n"
    )
    await connection.execute("UPDATE torpor_cursor SET pos = 4 WHERE shard = 3")
    await connection.execute("INSERT INTO torpor_lease VALUES ('relay', NULL, 7, now()), ('timers', NULL, 3, now())")
    store = stores()
    await connection.execute(
        "INSERT INTO torpor_migration VALUES ('torpor/0001_core.sql', $1)", checksum(text("0001_core.sql"))
    )
    await connection.close()

    assert "torpor/0002_outbox.sql" in await store.migrate({})
    await store.start()

    assert await pending_ids(store) == [str(number) for number in range(5, 11)]
    epoch = await relay_lease(store)
    assert epoch == 8
    await committed(store, message("new", key="k"))
    await store.outbox.advance(last_of(await store.outbox.pending(100)), epoch)
    assert (await store.outbox.state()).kept == 11


def checksum(sql: str) -> str:
    """What the adapter remembers of a migration."""
    from torpor.adapters.postgres.migrations import _checksum

    return _checksum(sql)


async def test_a_long_history_is_not_read(store: PostgresStore, url: str) -> None:
    """What was published long ago costs neither the relay nor the cleanup a thing."""
    await administer(
        url,
        "INSERT INTO torpor_outbox (shard, topic, type, id, headers, payload, at)"
        " SELECT n % 8, 't', 'y', n::text, '{}', '', n FROM generate_series(1, 100000) AS n",
    )
    await administer(url, "UPDATE torpor_cursor SET pos = 99000")

    assert len(await store.outbox.pending(5000)) == 1000
    assert await blocks_read(store, store._database.pending(0), 50, []) < 200
    assert await blocks_read(store, store._database.pending(None), 50, []) < 300
    is_old = store._database.queries["is_old"].replace("{part}", "0")
    assert await blocks_read(store, is_old, 0.0, 1e12) < 200


async def test_nothing_is_told_inside_a_transaction(store: PostgresStore, url: str) -> None:
    """A hint is a statement of its own, sent once for many commits of a moment."""
    heard: list[str] = []
    connection = await asyncpg.connect(url)
    await connection.add_listener(store._hints._channel, lambda *_: heard.append("hint"))
    for _ in range(1000):
        store.hints.tell()
    async with asyncio.timeout(DEADLINE):
        while not heard:  # noqa: ASYNC110  # a callback tells no event
            await asyncio.sleep(0.01)
    await connection.close()

    assert len(heard) == 1


async def test_behind_a_pooler_nobody_listens(stores: Callable[..., PostgresStore]) -> None:
    """A pooler takes LISTEN for what lasts a transaction, so hints are neither told nor waited for."""
    pooled = stores(is_pooled=True)
    async with asyncio.timeout(DEADLINE):
        pooled.hints.tell()
        await pooled.hints.listen(lambda: None)


async def test_a_crash_takes_back_whole_moves(postgres: PostgresServer, store: PostgresStore) -> None:
    """The cursors' last moves may be lost with a server, what was parked on the way with them, and never one of both;
    the lease is not. What commits after a move keeps it."""
    epoch = await relay_lease(store)
    await committed(store, *(message(id, key="k") for id in "123"))
    moved = last_of((await store.outbox.pending(10))[:2])
    await store.outbox.advance(moved, epoch, [parked("outbox", "2", key="k")])
    await crash(postgres, store)

    states = [row.message.id for row in await store.parking.list()], await pending_ids(store)
    assert states in ((["2"], ["3"]), ([], ["1", "2", "3"]))
    holding = await store.leases.find("keeper")
    assert holding is not None
    assert holding.epoch == epoch

    await store.outbox.advance(last_of(await store.outbox.pending(10)), epoch)
    await committed(store, message("4", key="k"))
    await crash(postgres, store)
    assert await pending_ids(store) == ["4"]


async def crash(server: PostgresServer, store: PostgresStore) -> None:
    """Ends the server at once, and starts it again."""
    server.stop("immediate")
    server.start()
    await eventually(store.ping)
    await eventually(lambda: store.outbox.pending(1))
