"""Effects on SQLite and JetStream: consume, inbox, one UPDATE, one event published, commit, acknowledge.

Each way handles the same messages on the same server, one after the other in each round, and ends when the last event
it publishes is confirmed. `by hand` is what an expert would write for this alone: `fetch(100)` of nats-py, one
transaction for each 100 with the same statements, events published in a window. FastStream takes a message at a time,
as its users do.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Bar, Report, table
from benchmarks.runs import note
from benchmarks.scale import FULL
from benchmarks.work import KEYS, Booked, Paid, Ready, fill_stream, medians, run_async
from torpor import Batch, Service, Tx, new_id
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.assembly import assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from benchmarks.scale import Scale

MESSAGES = 4000
SLOW = 800  # for the way that takes a message at a time
GROUP = 100
TABLES = """
CREATE TABLE IF NOT EXISTS account (id TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (pos INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, payload BLOB);
"""
HAND = "by hand"
FASTSTREAM = "FastStream + SQLAlchemy"
UPDATE = "UPDATE account SET cents = cents + $1 WHERE id = $2"


def service(kind: str) -> Service:
    """A service that books payments in one of our ways."""
    made = Service(f"bench-{kind}-{new_id()[-6:]}", migrations={"0001_account.sql": TABLES})

    async def awaited(event: Paid, tx: Tx) -> Booked:
        await tx.execute(UPDATE, event.cents, event.account)
        return Booked(account=event.account, cents=event.cents)

    async def deferred(event: Paid, tx: Tx) -> Booked:
        tx.write(UPDATE, event.cents, event.account)
        return Booked(account=event.account, cents=event.cents)

    async def batch(events: list[Paid], tx: Tx) -> list[Booked]:
        for event in events:
            tx.write(UPDATE, event.cents, event.account)
        return [Booked(account=event.account, cents=event.cents) for event in events]

    handlers: dict[str, Callable[..., Awaitable[Any]]] = {"awaited": awaited, "deferred": deferred, "batch": batch}
    made.on(Paid, batch=Batch(500) if kind == "batch" else None)(handlers[kind])
    return made


def fill(path: Path) -> None:
    """The accounts that are booked on."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(TABLES)
        connection.executemany("INSERT INTO account VALUES (?, 0)", [(str(key),) for key in range(KEYS)])
    connection.close()


async def ours(url: str, folder: Path, kind: str) -> float:
    """Messages a second of a Torpor service, from its start until its relay has published the last event."""
    made = service(kind)
    path = folder / f"{made.name}.db"
    fill(path)
    settings = Settings.read({"TORPOR_BROKER_URL": url, "TORPOR_DATABASE_URL": f"sqlite:///{path}"})
    deployment = assemble([made], settings)
    await deployment.migrate()
    (host,) = deployment.hosts
    began = time.perf_counter()
    await deployment.start()
    while host.metrics.published < MESSAGES:  # noqa: ASYNC110  # a number tells no event
        await asyncio.sleep(0.002)
    seconds = time.perf_counter() - began
    await deployment.stop()
    return MESSAGES / seconds


async def by_hand(url: str, folder: Path) -> float:
    """Messages a second of a loop written for this one task."""
    import nats

    path = folder / f"hand-{new_id()[-6:]}.db"
    fill(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    client = await nats.connect(url)
    stream = client.jetstream(publish_async_max_pending=4 * GROUP)
    await stream.add_stream(name="hand_booked", subjects=["hand.booked"])
    began, done = time.perf_counter(), 0
    subscription = await stream.pull_subscribe("bench.paid", durable=f"hand-{new_id()[-6:]}")
    loop = asyncio.get_running_loop()
    while done < MESSAGES:
        messages = await subscription.fetch(GROUP)
        connection.execute("BEGIN IMMEDIATE")
        fresh = []
        for message in messages:
            entered = connection.execute(
                "INSERT INTO inbox VALUES (?) ON CONFLICT DO NOTHING", ((message.headers or {})["ce-id"],)
            )
            if entered.rowcount:
                fresh.append(Paid.model_validate_json(message.data))
        booked = [Booked(account=event.account, cents=event.cents).model_dump_json().encode() for event in fresh]
        for event in fresh:
            connection.execute("UPDATE account SET cents = cents + ? WHERE id = ?", (event.cents, event.account))
        connection.executemany("INSERT INTO outbox (topic, payload) VALUES ('hand.booked', ?)", [(b,) for b in booked])
        await loop.run_in_executor(None, connection.execute, "COMMIT")
        sent = [await stream.publish_async("hand.booked", b, headers={"Nats-Msg-Id": new_id()}) for b in booked]
        await asyncio.gather(*sent)
        for message in messages:
            await message.ack()
        done += len(messages)
    seconds = time.perf_counter() - began
    await client.drain()
    connection.close()
    return MESSAGES / seconds


async def faststream(url: str, folder: Path) -> float:
    """Messages a second of FastStream with SQLAlchemy: a message, a transaction, an acknowledgement."""
    from faststream.nats import JStream, NatsBroker, PullSub
    from nats.js.api import ConsumerConfig
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    path = folder / f"fast-{new_id()[-6:]}.db"
    fill(path)
    engine = create_engine(f"sqlite:///{path}")
    broker = NatsBroker(url, logger=None)
    finished, count = asyncio.Event(), 0
    streams = JStream("bench_paid", declare=False), JStream("fast_booked", subjects=["fast.booked"])

    @broker.subscriber(
        "bench.paid",
        stream=streams[0],
        durable=f"fast-{new_id()[-6:]}",
        pull_sub=PullSub(batch_size=GROUP, timeout=0.2),
        config=ConsumerConfig(max_ack_pending=1000),
    )
    async def book(event: Paid) -> None:
        nonlocal count
        with Session(engine) as session:
            session.execute(text("INSERT INTO inbox VALUES (:id) ON CONFLICT DO NOTHING"), {"id": new_id()})
            session.execute(
                text("UPDATE account SET cents = cents + :cents WHERE id = :id"),
                {"cents": event.cents, "id": event.account},
            )
            session.commit()
        await broker.publish(Booked(account=event.account, cents=event.cents), "fast.booked", stream="fast_booked")
        count += 1
        if count >= SLOW:
            finished.set()

    broker.publisher("fast.booked", stream=streams[1])
    began = time.perf_counter()
    await broker.start()
    await finished.wait()
    seconds = time.perf_counter() - began
    await broker.stop()
    engine.dispose()
    return SLOW / seconds


def measure(scale: Scale) -> dict[str, float]:
    """The median of every way."""
    names: dict[str, Callable[[str, Path], Coroutine[Any, Any, float]]] = {
        HAND: by_hand,
        FASTSTREAM: faststream,
        "Torpor, `await tx.execute`": partial(ours, kind="awaited"),
        "Torpor, `tx.write`": partial(ours, kind="deferred"),
        "Torpor, `Batch(500)`": partial(ours, kind="batch"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = EmbeddedNats(folder / "nats")
        server.start()
        try:
            run_async(fill_stream(server.url, MESSAGES))
            ways: dict[str, Ready] = {name: partial(way, server.url, folder) for name, way in names.items()}
            return medians(ways, scale.rounds, note)
        finally:
            server.stop()


def run(scale: Scale = FULL) -> Report:
    """The table of medians, each beside the loop by hand and beside FastStream."""
    rates = measure(scale)
    hand, fast = rates[HAND], rates[FASTSTREAM]
    rows = [(way, f"{rate:,.0f}", f"{rate / hand:.2f}", f"{rate / fast:.1f}") for way, rate in rates.items()]
    head = (f"medians of {scale.rounds}, {MESSAGES} messages", "effects/s", "÷ by hand", "÷ FastStream")
    slowest = min(rate for way, rate in rates.items() if way.startswith("Torpor"))
    return Report(table(head, rows), [Bar("SQLite, slowest way ÷ by hand", slowest / hand, least=0.5)])
