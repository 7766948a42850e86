"""Units on PostgreSQL whose connection is cut at each exchange in turn: before the server has it, or before it answers.

What the units do is drawn from a seed: handlers write at once and late, publish, set timers, fail once or for good;
deliveries come twice. However the connection is cut, the effects are those of a run without a cut."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.postgres_wire import Proxy
from torpor import Event, Message, Retry, Service, Tx
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.message import Delivery
from torpor.runtime.attempts import Work
from torpor.runtime.binding import bind
from torpor.runtime.context import Context, Health
from torpor.runtime.ids import new_id
from torpor.runtime.metrics import Metrics
from torpor.runtime.tx import Envelope
from torpor.runtime.unit import Units

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.integration.postgres_server import PostgresServer

TABLE = "CREATE TABLE effect (number integer NOT NULL, step integer NOT NULL, place bigserial);"
MOST_EXCHANGES = 200
SEEDS = range(3)


class Done(Event, topic="done", key="key"):
    key: str
    number: int


class Asked(Event, topic="asked", key="key"):
    key: str
    number: int
    kind: str


class Hasty:
    """The real time, and no waiting."""

    def __init__(self) -> None:
        self.time = SystemClock().time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        await asyncio.sleep(0)
        return event.is_set()


class Bench:
    """A binding whose handler does what its events say."""

    def __init__(self, url: str) -> None:
        self.store = PostgresStore(url, SystemClock())
        self.failed: set[int] = set()
        service = Service("bench")

        @service.on(Asked, retry=Retry(attempts=2, give_up_on=[LookupError]))
        async def handle(event: Asked, tx: Tx) -> Done:
            return await self.handle(event, tx)

        (binding,) = bind(service).subscribers
        clock = Hasty()
        context = Context(
            clock=clock,
            metrics=Metrics("bench"),
            health=Health(lambda *_: None),
            envelope=Envelope("bench", new_id=new_id, clock=clock),
            committed=lambda _: None,
        )
        self.units = Units(Work(binding.handled, Asked, binding.policies), self.store, context)

    async def handle(self, event: Asked, tx: Tx) -> Done:
        await tx.execute("INSERT INTO effect (number, step) VALUES ($1, 1)", event.number)
        if event.kind == "flaky" and event.number not in self.failed:
            self.failed.add(event.number)
            raise ValueError("not yet")
        if event.kind == "poisoned":
            raise LookupError("never")
        if event.kind == "reading":
            await tx.fetch("SELECT count(*) FROM effect")
        if event.kind == "waiting":
            tx.publish(Done(key=event.key, number=-event.number), after=3600, timer=f"timer-{event.number}")
        tx.write("INSERT INTO effect (number, step) VALUES ($1, 2)", event.number)
        return Done(key=event.key, number=event.number)


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    """Stands before the server, and cuts connections."""
    proxy = Proxy(postgres.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.mark.parametrize("cut", ["lost", "unanswered"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_cut_at_any_exchange_changes_no_effect(
    postgres: PostgresServer, proxy: Proxy, seed: int, cut: str
) -> None:
    """Each message has its effects once and its event once, in order, and what fails is parked once."""
    name = f"failpoints_{uuid4().hex}"
    connection = await asyncpg.connect(postgres.url())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    bench = Bench(postgres.url(name, port=proxy.port))
    await bench.store.migrate({"0001_effect.sql": TABLE})
    await bench.store.start()
    observer = await asyncpg.connect(postgres.url(name))
    has_cut, exchange = True, 0
    while has_cut:
        exchange += 1
        assert exchange < MOST_EXCHANGES
        batch = drawn(Random(seed), first=1000 * exchange)
        proxy.cut_at(exchange, is_forwarded=cut == "unanswered")
        async with asyncio.timeout(30):
            await bench.units.run([delivery(event) for event in batch])
        has_cut = proxy.has_cut
        proxy.cut_at(MOST_EXCHANGES * 1000, is_forwarded=False)
        await check(observer, batch)
    assert exchange > 3  # the last was the first run without a cut
    await observer.close()
    await bench.store.stop()


def drawn(chance: Random, *, first: int) -> list[Asked]:
    """A batch of a few keys, some of it twice."""
    kinds = ["plain", "plain", "flaky", "poisoned", "reading", "waiting"]
    chosen = [chance.choice(kinds) for _ in range(chance.randrange(1, 9))]
    events = [
        Asked(key=f"k{first}-{chance.randrange(3)}", number=first + place, kind=kind)
        for place, kind in enumerate(chosen)
    ]
    return events + [event for event in events if chance.random() < 0.2]


def delivery(event: Asked) -> Delivery:
    data = event.model_dump_json().encode()
    return Delivery(Message("asked", data, id=f"id-{event.number}", type="asked", key=event.key))


async def check(observer: asyncpg.Connection[Any], batch: Sequence[Asked]) -> None:
    """Compares what is stored with what the batch says."""
    first = batch[0].number // 1000 * 1000
    poisoned: set[str] = set()
    done, parked = [], []
    for event in {event.number: event for event in batch}.values():
        if event.key in poisoned or event.kind == "poisoned":
            poisoned.add(event.key)
            parked.append(event.number)
        else:
            done.append(event)
    rows = await observer.fetch(
        "SELECT number, step FROM effect WHERE number BETWEEN $1 AND $2 ORDER BY number, step", first, first + 999
    )
    assert [tuple(row) for row in rows] == [(event.number, step) for event in done for step in (1, 2)]
    sent = await observer.fetch(
        "SELECT key, payload FROM torpor_outbox WHERE key LIKE $1 ORDER BY shard, pos", f"k{first}-%"
    )
    numbers = [(row["key"], Done.model_validate_json(row["payload"]).number) for row in sent]
    for key in {event.key for event in batch}:
        assert [number for of, number in numbers if of == key] == [event.number for event in done if event.key == key]
    held = await observer.fetch("SELECT id FROM torpor_parked WHERE key LIKE $1 ORDER BY number", f"k{first}-%")
    assert [row["id"] for row in held] == [f"id-{number}" for number in parked]
    timers = await observer.fetch("SELECT name FROM torpor_timer WHERE key LIKE $1 ORDER BY name", f"k{first}-%")
    assert [row["name"] for row in timers] == [f"timer-{event.number}" for event in done if event.kind == "waiting"]
