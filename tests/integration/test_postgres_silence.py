"""A network that forgets connections: no packet arrives any more, and nobody is told."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.postgres_server import administer, eventually, run_alone
from tests.integration.postgres_wire import Proxy
from torpor.adapters.postgres.address import Address
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.pool import connect, end
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import StoreUnavailable
from torpor.testing.conformance.store import DEADLINE, OWN, committed, message, pending_ids
from torpor.testing.conformance.store_sql import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.postgres_server import PostgresServer

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason=f"not of {sys.platform}'s network")

OPTIONS = {"silence_seconds": 1.0, "command_seconds": 600.0, "wait_seconds": 600.0}


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    """The network before it."""
    proxy = Proxy(postgres.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def store(postgres: PostgresServer, proxy: Proxy) -> AsyncIterator[PostgresStore]:
    """A store beyond the network, with a statement's timeout that no test waits for."""
    database = f"silence_{uuid4().hex}"
    await administer(postgres.url(), f"CREATE DATABASE {database}")
    store = PostgresStore(postgres.url(database, port=proxy.port), SystemClock(), PostgresOptions(**OPTIONS))  # type: ignore[arg-type]
    await store.migrate(OWN)
    await store.start()
    yield store
    await store.stop()


async def pids(store: PostgresStore, count: int) -> set[int]:
    """The processes of so many units' connections, each opened if there are not as many."""
    together = asyncio.Barrier(count)

    async def ask() -> int:
        async with store.unit() as unit:
            ((row,),) = [list(row.values()) for row in await unit.statements.fetch("SELECT pg_backend_pid()", ())]
            await together.wait()
            return int(row)

    return set(await asyncio.gather(*(ask() for _ in range(count))))


async def test_a_unit_on_a_forgotten_connection(store: PostgresStore, proxy: Proxy) -> None:
    """It fails as StoreUnavailable long before its statement's time is over, and the next one works."""
    await committed(store, message("1"))
    async with asyncio.timeout(DEADLINE), store.unit() as unit:
        await run(unit, "INSERT INTO note (id) VALUES ('lost')")
        proxy.forget()
        with pytest.raises(StoreUnavailable):
            await unit.commit()

    async with asyncio.timeout(DEADLINE):
        await eventually(lambda: committed(store, message("2")))
        assert await pending_ids(store) == ["1", "2"]


async def test_a_statement_whose_answer_is_lost(store: PostgresStore, postgres: PostgresServer, proxy: Proxy) -> None:
    """When all was sent and confirmed and only the answer is missing, the connection is found lost too."""
    async with asyncio.timeout(DEADLINE), store.unit() as unit:
        asking = asyncio.create_task(run(unit, "SELECT pg_sleep(600)"))
        async with asyncio.timeout(DEADLINE):
            while not await is_asleep(postgres):  # noqa: ASYNC110  # another process tells no event
                await asyncio.sleep(0.01)
        proxy.forget()
        with pytest.raises(StoreUnavailable):
            await asking


async def test_all_connections_are_forgotten(store: PostgresStore, proxy: Proxy) -> None:
    """Those that nobody used meanwhile, and those of the relay, are found lost at the same time, and not in turn."""
    await pids(store, 4)
    await store.outbox.pending(1)
    proxy.forget()

    async with asyncio.timeout(DEADLINE):
        await eventually(store.ping)
        await eventually(lambda: committed(store, message("1")))
        await eventually(lambda: store.outbox.pending(1))
        await pids(store, 4)


async def test_who_listens_is_told(store: PostgresStore, proxy: Proxy) -> None:
    """A connection on which nothing is ever sent is found lost as well."""
    heard = asyncio.Event()
    listening = asyncio.create_task(store.hints.listen(heard.set))
    async with asyncio.timeout(DEADLINE):
        await heard.wait()
        proxy.forget()
        with pytest.raises(StoreUnavailable, match="lost"):
            await listening


async def test_a_lost_connection_gives_up_those_that_wait(store: PostgresStore, postgres: PostgresServer) -> None:
    """What hit one may have hit them all: none of them is used again."""
    old = await pids(store, 4)

    with pytest.raises(StoreUnavailable):
        await run_alone(store, "SELECT pg_terminate_backend(pg_backend_pid())")

    assert not old & await pids(store, 4)


async def test_a_connection_is_watched_by_the_system(postgres: PostgresServer) -> None:
    """The options of its socket are as asked; asyncpg still shows the socket."""
    address = Address(postgres.url())
    connection = await connect(address, PostgresOptions(silence_seconds=6))
    try:
        line: Any = connection._transport.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 1
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6000
    finally:
        await end(connection)


async def is_asleep(server: PostgresServer) -> bool:
    """Whether some statement sleeps."""
    connection = await asyncpg.connect(server.url())
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
    finally:
        await connection.close()
