"""An idle service's one message: from its publishing until its effect is committed and it is acknowledged.

Beside a loop by hand that does one transaction with the same statements on one connection: BEGIN, inbox, UPDATE,
outbox, COMMIT, acknowledgement. Torpor's relay and other duties run as they do in service.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.hand_ways import APPEND, ENTER
from benchmarks.probes import Watch, WatchedBroker
from benchmarks.report import Bar, Report, table
from benchmarks.runs import Runs, note
from benchmarks.scale import FULL
from benchmarks.servers import running
from benchmarks.torpor_ways import made
from benchmarks.work import (
    KEYS,
    STREAM,
    TOPIC,
    UPDATE,
    Booked,
    Meter,
    Paid,
    Place,
    fill_stream,
    make_tables,
    medians,
    run_async,
    until,
)
from torpor import new_id
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.assembly import duties_of
from torpor.contract.codec import encode
from torpor.kernel import cloudevents
from torpor.runtime.binding import bind
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.scale import Scale

MESSAGES = 150
_PAUSE = 0.004  # between two messages, so that nothing of the last is under way
_SQLITE_TABLES = """
CREATE TABLE account (id TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE inbox (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE outbox (pos INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, topic TEXT, key TEXT, payload BLOB);
"""
WAYS = ("PostgreSQL, by hand", "PostgreSQL, Torpor", "SQLite (FULL), by hand", "SQLite (FULL), Torpor")


async def lap(client: Any, done: asyncio.Event, count: int) -> float:
    """The median milliseconds of one message at a time; the first tenth warms up."""
    waits = []
    for number in range(count):
        event = Paid(account=str(number % KEYS), cents=number)
        message = encode(event, id=new_id(), key=None, attributes={"source": "bench"})
        headers = cloudevents.encode(message, cloudevents.NATS)
        await asyncio.sleep(_PAUSE)
        done.clear()
        began = time.perf_counter()
        await client.publish(TOPIC, message.data, headers=headers)
        async with asyncio.timeout(10):
            await done.wait()
        waits.append(time.perf_counter() - began)
    return median(waits[count // 10 :]) * 1000


async def torpor(place: Place, store: Any) -> float:
    """Torpor's time for a message."""
    client = await connected(place)
    service, watch = made("awaited", Meter(place.count)), Watch()
    plan = bind(service)
    broker: Any = WatchedBroker(JetStreamBroker(JetStreamOptions(servers=place.nats, name=service.name)), watch)
    host = Host(plan, broker=broker, store=store, clock=SystemClock(), duties=duties_of(plan))
    await host.start()
    await until(lambda: host.is_ready and host.is_idle)
    taken = await lap(client, watch.acknowledged, place.count)
    await host.stop()
    await client.close()
    return taken


async def by_hand(place: Place, transact: Callable[[Paid, str], Awaitable[None]]) -> float:
    """The time of a loop by hand: it has its pull request out before the message comes."""
    client = await connected(place)
    subscription = await client.jetstream().pull_subscribe(TOPIC, durable=f"hand-{new_id()[-6:]}", stream=STREAM)
    done = asyncio.Event()

    async def work() -> None:
        while True:
            (message,) = await subscription.fetch(1, timeout=30)
            await transact(Paid.model_validate_json(message.data), message.headers["ce-id"])
            await message.ack()
            done.set()

    task = asyncio.create_task(work())
    taken = await lap(client, done, place.count)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()
    return taken


async def connected(place: Place) -> Any:
    """A client, and a stream with nothing in it."""
    import nats

    client = await nats.connect(place.nats)
    await client.jetstream().purge_stream(STREAM)
    return client


async def torpor_postgres(place: Place) -> float:
    """Torpor on PostgreSQL."""
    store = PostgresStore(place.dsn, SystemClock())
    await store.migrate({})
    await make_tables(place.dsn, are_own=False)
    return await torpor(place, store)


async def hand_postgres(place: Place) -> float:
    """asyncpg, one connection."""
    import asyncpg

    await make_tables(place.dsn, are_own=True)
    connection = await asyncpg.connect(place.dsn)

    async def transact(event: Paid, id: str) -> None:
        await connection.execute("BEGIN")
        if await connection.execute(ENTER, id) == "INSERT 0 1":
            await connection.execute(UPDATE, event.cents, event.account)
            booked = Booked(account=event.account, cents=event.cents).model_dump_json().encode()
            await connection.execute(APPEND, new_id(), "hand.booked", event.account, booked)
        await connection.execute("COMMIT")

    taken = await by_hand(place, transact)
    await connection.close()
    return taken


async def torpor_sqlite(place: Place) -> float:
    """Torpor on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(f"{folder}/torpor.db", SystemClock())
        await store.migrate({"0001_account.sql": _SQLITE_TABLES.split(";", maxsplit=1)[0] + ";"})
        _fill(Path(folder) / "torpor.db")
        return await torpor(place, store)


async def hand_sqlite(place: Place) -> float:
    """The standard library's sqlite3, on the loop: nothing else waits for it here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hand.db"
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_SQLITE_TABLES)
        _fill(path)

        async def transact(event: Paid, id: str) -> None:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("INSERT INTO inbox VALUES (?) ON CONFLICT DO NOTHING", (id,)).rowcount:
                connection.execute(UPDATE, (event.cents, event.account))
                booked = Booked(account=event.account, cents=event.cents).model_dump_json().encode()
                row = (new_id(), "hand.booked", event.account, booked)
                connection.execute("INSERT INTO outbox (id, topic, key, payload) VALUES (?, ?, ?, ?)", row)
            connection.execute("COMMIT")

        taken = await by_hand(place, transact)
        connection.close()
        return taken


def _fill(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT INTO account VALUES (?, 0)", [(str(key),) for key in range(KEYS)])
    connection.close()


def run(scale: Scale = FULL) -> Report:
    """The medians, and the bars."""
    with running() as servers:
        runs = Runs(servers, scale)
        run_async(fill_stream(servers.nats.url, 1))
        works = (hand_postgres, torpor_postgres, hand_sqlite, torpor_sqlite)
        ways = {name: runs.way(MESSAGES, partial(work)) for name, work in zip(WAYS, works, strict=True)}
        taken = medians(ways, scale.rounds, note)
    hand, ours, hand_lite, lite = (taken[name] for name in WAYS)
    lines = [(name, f"{milliseconds:.2f}") for name, milliseconds in taken.items()]
    text = table((f"medians of {scale.rounds} medians of {MESSAGES}", "ms"), lines)
    bars = [
        Bar("one message on PostgreSQL ÷ by hand", ours / hand, most=1.2),
        Bar("one message on SQLite ÷ by hand", lite / hand_lite, most=1.5),
    ]
    return Report(text, bars)
