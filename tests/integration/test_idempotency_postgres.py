"""Requests with an `Idempotency-Key` on PostgreSQL, by two processes as it were: two applications on one database."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
from pydantic import BaseModel

from tests.integration.postgres_server import PostgresServer, started
from torpor import Idempotent, Service, Tx, new_id
from torpor.assembly import assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MIGRATIONS = {"0001_purchase.sql": "CREATE TABLE purchase (id TEXT PRIMARY KEY, cents INTEGER NOT NULL)"}
REPLAYED = "Idempotency-Replayed"


class NewOrder(BaseModel):
    cents: int


class Gate:
    """Holds the slow route until it is opened, and fails it when asked to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.calls = 0
        self.failures = 0


def orders(gate: Gate) -> Service:
    """A service that takes orders, at once and slowly."""
    service = Service("orders", migrations=MIGRATIONS)

    @service.post("/orders", status_code=201, idempotency=Idempotent())
    async def place(order: NewOrder, tx: Tx) -> dict[str, str]:
        id = new_id()
        await tx.execute("INSERT INTO purchase (id, cents) VALUES ($1, $2)", id, order.cents)
        if gate.failures:
            gate.failures -= 1
            raise RuntimeError("the handler fails")
        return {"id": id}

    @service.post("/slow", idempotency=Idempotent())
    async def slow(tx: Tx) -> str:
        gate.calls += 1
        tx.write("INSERT INTO purchase (id, cents) VALUES ($1, 1)", new_id())
        gate.entered.set()
        await gate.leave.wait()
        return "done"

    @service.get("/count")
    async def count(tx: Tx) -> int:
        return len(await tx.fetch("SELECT 1 FROM purchase"))

    return service


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = started()
    yield server
    server.remove()


@pytest.fixture
def gate() -> Gate:
    """The gate of the slow route."""
    return Gate()


@pytest.fixture
async def clients(database: PostgresServer, gate: Gate) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two deployments of one service."""
    settings = Settings.read({"TORPOR_DATABASE_URL": f"{database.url()}&schema={{service}}"})
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            deployment = assemble([orders(gate)], settings)
            await deployment.migrate()
            await deployment.start()
            stack.push_async_callback(deployment.stop)
            async with asyncio.timeout(30):
                while not all(host.is_ready for host in deployment.hosts):  # noqa: ASYNC110  # a host tells no event
                    await asyncio.sleep(0.01)
            transport = httpx.ASGITransport(app=deployment.app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://shop.test")
            clients.append(await stack.enter_async_context(client))
        yield clients


async def test_another_process_gives_the_same_answer(clients: list[httpx.AsyncClient]) -> None:
    """What one process has answered the other replays, byte for byte; another payload is refused."""
    one, other = clients
    headers = {"Idempotency-Key": "k"}
    first = await one.post("/orders", json={"cents": 5}, headers=headers)
    again = await other.post("/orders", json={"cents": 5}, headers=headers)
    assert (first.status_code, REPLAYED in first.headers) == (201, False)
    assert (again.status_code, again.content, again.headers[REPLAYED]) == (201, first.content, "true")
    assert (await other.post("/orders", json={"cents": 6}, headers=headers)).status_code == 422
    assert (await one.get("/count")).json() == 1


async def test_two_at_once_in_two_processes_run_once(clients: list[httpx.AsyncClient], gate: Gate) -> None:
    """While one process handles a key, the other answers 409 without waiting; afterwards it replays."""
    one, other = clients
    headers = {"Idempotency-Key": "k"}
    first = asyncio.create_task(one.post("/slow", headers=headers))
    await gate.entered.wait()
    for client in clients:
        async with asyncio.timeout(20):
            second = await client.post("/slow", headers=headers)
        assert (second.status_code, second.headers["Retry-After"]) == (409, "1")
    async with asyncio.timeout(20):
        free = await other.post("/orders", json={"cents": 5}, headers={"Idempotency-Key": "another"})
    assert free.status_code == 201
    gate.leave.set()
    assert (await first).json() == "done"
    assert (await other.post("/slow", headers=headers)).headers[REPLAYED] == "true"
    assert gate.calls == 1
    assert (await one.get("/count")).json() == 2


async def test_a_crowd_with_one_key_has_one_effect(clients: list[httpx.AsyncClient]) -> None:
    """Of many requests at once one runs; each other is told to wait, or gets the first's answer."""
    headers = {"Idempotency-Key": "crowd"}
    answers = await asyncio.gather(
        *(client.post("/orders", json={"cents": 5}, headers=headers) for client in clients for _ in range(12))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert (await clients[0].get("/count")).json() == 1


async def test_what_was_rolled_back_runs_again(clients: list[httpx.AsyncClient], gate: Gate) -> None:
    """A handler that failed has kept no answer and no effect, so the retry is a first time."""
    gate.failures = 2
    headers = {"Idempotency-Key": "k"}
    answers = [await client.post("/orders", json={"cents": 5}, headers=headers) for client in clients * 2]
    assert [answer.status_code for answer in answers] == [500, 500, 201, 201]
    assert REPLAYED in answers[3].headers
    assert (await clients[0].get("/count")).json() == 1


async def test_a_restarted_database_still_knows(clients: list[httpx.AsyncClient], database: PostgresServer) -> None:
    """An answer outlives the server's crash, as the effects do that it belongs to."""
    headers = {"Idempotency-Key": "k"}
    first = await clients[0].post("/orders", json={"cents": 5}, headers=headers)
    database.stop()
    database.start()
    async with asyncio.timeout(30):
        while (again := await clients[1].post("/orders", json={"cents": 5}, headers=headers)).status_code == 503:  # noqa: ASYNC110  # the database tells nothing
            await asyncio.sleep(0.05)
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
    assert (await clients[1].get("/count")).json() == 1
