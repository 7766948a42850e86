"""Parked messages and inserts of many rows on a real PostgreSQL server: what an operator's commands do there."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.integration.postgres_server import administer, eventually, run_alone
from tests.integration.postgres_wire import Bouncer
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.cli import main
from torpor.kernel.errors import StatementFailed
from torpor.kernel.message import Message, ParkedMessage
from torpor.kernel.parked import ParkedQuery
from torpor.testing.conformance.store import claimed, committed, numbers_of, parked
from torpor.testing.conformance.store_sql import rows, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.postgres_server import PostgresServer

MANY = 5_000
STOCK = {"0001_stock.sql": "CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER)"}


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """The address of a new, empty database."""
    name = f"parked_{uuid4().hex}"
    asyncio.run(administer(postgres.url(), f"CREATE DATABASE {name}"))
    return postgres.url(name)


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[PostgresStore]:
    """A started store on a schema of its own."""
    store = PostgresStore(postgres.url(), SystemClock(), PostgresOptions(schema=f"parked {uuid4().hex}"))
    await store.migrate(STOCK)
    await store.start()
    yield store
    await store.stop()


async def fill(url: str) -> None:
    """Parks many messages: of each key one, and every fifth twice."""
    store = PostgresStore(url, SystemClock(), PostgresOptions())
    await store.migrate({})
    await store.start()
    await committed(store, parked=[row(n) for n in range(MANY)])
    await store.stop()


def row(number: int) -> ParkedMessage:
    """The parked message of a number."""
    inner = Message(f"t{number % 2}", b'{"n": 1}', id=str(number), type="y", key=f"key {number % (MANY * 4 // 5)}")
    reason = "TimeoutError: slow" if number % 10 == 0 else "ValueError: no"
    waits = 0.0 if number >= MANY * 4 // 5 else None
    return ParkedMessage("orders.pay", inner, reason=reason, at=float(number), attempts=3, due_at=waits)


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert main(["parked", *words]) == code
    return capsys.readouterr().out


def test_the_commands_on_many_messages(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Lists, pages, counts, edits, redrives and discards by query, as an operator would with the server's address."""
    monkeypatch.setenv("TORPOR_DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)
    asyncio.run(fill(url))
    at = ["--service", "orders"]

    told(capsys, "redrive", "1", "--payload", "/dev/null", *at)
    shown = json.loads(told(capsys, "show", "1", "--json", *at))
    assert (shown["data"], shown["state"], shown["edits"][0]["data"]) == ("", "due", '{"n": 1}')
    assert "400 to be tried again" in told(capsys, "redrive", "--reason", "slow", "--yes", *at)
    assert "100 that wait behind another follow it" in told(capsys, "redrive", "--reason", "slow", "--yes", *at)
    assert "waits behind orders:2" in told(capsys, "redrive", str(MANY * 4 // 5 + 2), *at, code=1)
    assert "500 discarded" in told(capsys, "discard", "--reason", "slow", "--yes", *at)
    assert "4,500 discarded" in told(capsys, "discard", "--all", "--yes", *at)
    assert "Nothing that is parked fits" in told(capsys, "redrive", "--all", *at)


async def test_a_row_that_is_being_handled_is_left_to_its_unit(store: PostgresStore) -> None:
    """Whoever edits, redrives or discards it is told that it was not, and does not wait."""
    (number,) = await numbers_of(store, parked("b", "1", key="k", due_at=1))
    async with asyncio.timeout(10), store.unit() as unit:
        assert await unit.claim(number)
        assert not await store.parking.edit(number, b"", attributes={}, at=1.0)
        assert await store.parking.redrive(ParkedQuery(), 1.0) == 0
        assert await store.parking.discard(ParkedQuery()) == 0
    assert await claimed(store, number)


async def test_queries_use_the_indexes(store: PostgresStore) -> None:
    """A key, numbers, a page and what a row waits behind are found without reading the table."""
    await committed(store, parked=[row(n) for n in range(MANY)])
    schema = store._database.options.schema
    await run_alone(store, f'ANALYZE "{schema}".torpor_parked')
    named = store._database.queries
    for statement, parameters in (
        (named["parked"].format(where="key = $1", order="number + 0", limit="$2"), ("key 7", 100)),
        (named["count_parked"].format(where="key = $1"), ("key 7",)),
        (named["parked"].format(where="number > $1", order="number", limit="$2"), (MANY - 10, 100)),
        (named["parked"].format(where="number = ANY($1::bigint [])", order="number", limit="$2"), ([3, 4], 100)),
        (named["first_of_queue"], (MANY - 10,)),
    ):
        plan = "\n".join(line[0] for line in await store._database.fetch(f"EXPLAIN {statement}", *parameters))
        assert "Seq Scan" not in plan, plan
        assert "Index" in plan


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="not promised: PgBouncer is not installed")
async def test_many_rows_through_a_pooler(postgres: PostgresServer) -> None:
    """COPY works behind PgBouncer in transaction mode, also when it fails, with units side by side."""
    name = f"pooled_{uuid4().hex}"
    await administer(postgres.url(), f"CREATE DATABASE {name}")
    bouncer = Bouncer(postgres, name)
    bouncer.start()
    store = PostgresStore(
        postgres.url(name, port=bouncer.port), SystemClock(), PostgresOptions(is_pooled=True, connections=6)
    )
    try:
        await eventually(lambda: store.migrate(STOCK))
        await store.start()

        async def one(number: int) -> None:
            async with store.unit() as unit:
                values = [(f"{number}-{n}", n) for n in range(50)]
                assert await unit.statements.insert_many("stock", ("sku", "n"), values) == 50
                assert await run(unit, "UPDATE stock SET n = n + 1 WHERE sku = $1", f"{number}-0") == 1
                await unit.commit()

        async def bad(value: object) -> None:
            async with store.unit() as unit:
                with pytest.raises(StatementFailed):
                    await unit.statements.insert_many("stock", ("sku", "n"), [("bad", value)])

        async with asyncio.timeout(30):
            await asyncio.gather(
                *(one(n) for n in range(12)), *(bad(value) for value in ("no number", object(), 2**70))
            )
        assert await rows(store, "SELECT count(*) AS n, sum(n) AS total FROM stock") == [{"n": 600, "total": 14712}]
    finally:
        await store.stop()
        bouncer.stop()


async def test_a_schema_may_be_named(store: PostgresStore) -> None:
    """`schema.table` reaches a table beside the store's own schema; an unknown one is told."""
    await run_alone(store, "CREATE SCHEMA beside")
    await run_alone(store, "CREATE TABLE beside.stock (sku TEXT)")
    async with store.unit() as unit:
        assert await unit.statements.insert_many("beside.stock", ("sku",), [("a",)]) == 1
        await unit.commit()
    assert await rows(store, "SELECT sku FROM beside.stock") == [{"sku": "a"}]
    async with store.unit() as unit:
        with pytest.raises(StatementFailed, match="nowhere"):
            await unit.statements.insert_many("nowhere.stock", ("sku",), [("a",)])


async def test_a_value_that_does_not_fit_is_not_told(store: PostgresStore) -> None:
    """What COPY cannot encode names types alone, and the connection serves the next unit."""
    for value in ("secret", 2**70, b"secret", object()):
        async with store.unit() as unit:
            with pytest.raises(StatementFailed, match="COPY stock") as failure:
                await unit.statements.insert_many("stock", ("sku", "n"), [("a", value)])
        assert "secret" not in str(failure.value)
        assert failure.value.__cause__ is None
    async with store.unit() as unit:
        assert await unit.statements.insert_many("stock", ("sku", "n"), [("a", 1)]) == 1
