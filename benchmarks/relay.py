"""The relay: a backlog of the outbox published to JetStream, and how long a committed row waits when there is none.

The peers publish the same messages with the same headers, from memory: they read no outbox, keep no order across
failures and move no cursor. nats-py publishes in a window, FastStream as many at once as is best for it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.probes import Watch, WatchedBroker, WatchedStore
from benchmarks.report import Bar, Report, table
from benchmarks.runs import Runs, note
from benchmarks.scale import FULL
from benchmarks.servers import running
from benchmarks.torpor_ways import effects, made
from benchmarks.work import KEYS, Booked, Meter, Paid, Place, fill_stream, make_tables, medians, run_async, until
from torpor import Service, Tx, new_id
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.assembly import keeper_duties
from torpor.contract.codec import encode
from torpor.kernel import cloudevents
from torpor.runtime.binding import bind
from torpor.runtime.context import Committed
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from benchmarks.scale import Scale
    from torpor.kernel.message import Message

ROWS = 20_000
MESSAGES = 8000
TOPIC = "bench.booked"
STREAM = "bench_booked"
WINDOWS = (256, 1024, 4000)
AT_ONCE = (1, 50, 200)
SECONDS = 3.0
CALM = 100  # messages a second
RELAY = "Torpor's relay"
_BURST = 0.005
_LONGEST = 10.0  # seconds for a connection to end
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_DEAD = "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE relname LIKE 'torpor\\_outbox%'"


def rows(count: int) -> list[Message]:
    """What is published."""
    events = (Booked(account=str(number % 1000), cents=number) for number in range(count))
    return [encode(event, id=new_id(), key=None, attributes={"source": "bench"}) for event in events]


def publisher() -> Service:
    """A service that publishes and listens to nothing."""
    service = Service(f"bench-relay-{new_id()[-6:]}")

    async def book(_: Tx) -> Booked:
        return Booked(account="1", cents=1)

    service.post("/book")(book)
    return service


def host_of(service: Service, place: Place, store: Any, watch: Watch | None = None) -> Host:
    """The service with the keeper's duties, and with watches when they are wanted."""
    broker: Any = JetStreamBroker(JetStreamOptions(servers=place.nats, name=service.name))
    if watch is not None:
        broker, store = WatchedBroker(broker, watch), WatchedStore(store, watch)
    return Host(bind(service), broker=broker, store=store, clock=SystemClock(), duties=keeper_duties())


async def relayed(place: Place) -> float:
    """Rows a second of the relay, from the commit of a backlog until all of it is confirmed."""
    store = PostgresStore(place.dsn, SystemClock())
    await store.migrate({})
    host = host_of(publisher(), place, store)
    await host.start()
    await until(lambda: host.is_ready and host.is_idle)
    rate = await backlog(host, place.count)
    await host.stop()
    return rate


async def backlog(host: Host, count: int) -> float:
    """Commits rows, and publishes them; rows a second of the second half of that. The relay has the rows from the
    database alone, so no others are kept."""
    already = host.metrics.published
    async with host.store.unit() as unit:
        await unit.append(rows(count), [])
        await unit.commit()
    gc.collect()
    began = time.perf_counter()
    host.committed(Committed(count))
    await until(lambda: host.metrics.published - already >= count)
    return count / (time.perf_counter() - began)


async def by_nats(place: Place, window: int) -> float:
    """Messages a second of nats-py, so many on their way at a time."""
    import nats

    client = await nats.connect(place.nats)
    stream = client.jetstream(publish_async_max_pending=window)
    prepared = [(message.data, headers_of(message)) for message in rows(place.count)]
    gc.collect()
    began = time.perf_counter()
    for data, headers in prepared:
        await stream.publish_async(TOPIC, data, headers=headers)
    await stream.publish_async_completed()
    rate = place.count / (time.perf_counter() - began)
    await client.close()
    return rate


async def by_faststream(place: Place, at_once: int) -> float:
    """Messages a second of FastStream, so many calls at once."""
    from faststream.nats import NatsBroker

    broker = NatsBroker(place.nats, logger=None)
    await broker.start()
    prepared = iter([(message.data, headers_of(message)) for message in rows(place.count)])

    async def work() -> None:
        for data, headers in prepared:
            await broker.publish(data, TOPIC, stream=STREAM, headers=headers)

    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    rate = place.count / (time.perf_counter() - began)
    await broker.stop()
    return rate


def headers_of(message: Message) -> dict[str, str]:
    """The headers that the relay sends."""
    return {**cloudevents.encode(message, cloudevents.NATS), "Nats-Msg-Id": message.id}


async def calm(place: Place) -> float:
    """The median wait of rows committed one at a time, in milliseconds."""
    watch = Watch()
    store = PostgresStore(place.dsn, SystemClock())
    await store.migrate({})
    host = host_of(publisher(), place, store, watch)
    await host.start()
    await until(lambda: host.is_ready and host.is_idle)
    began = time.perf_counter()
    for number, message in enumerate(rows(place.count)):
        await asyncio.sleep(max(0.0, began + number / CALM - time.perf_counter()))
        async with host.store.unit() as unit:
            await unit.append([message], [])
            await unit.commit()
        host.committed(Committed(1))
    await until(lambda: not watch.committed)
    await host.stop()
    return median(watch.waits) * 1000


async def half_load(place: Place, rate: float) -> float:
    """The median wait, in milliseconds, of what a service commits at so many messages a second."""
    import nats

    watch = Watch()
    store = PostgresStore(place.dsn, SystemClock())
    await store.migrate({})
    await make_tables(place.dsn, are_own=False)
    host = host_of(made("awaited", Meter(place.count)), place, store, watch)
    client = await nats.connect(place.nats)
    await client.jetstream().purge_stream("bench_paid")
    await host.start()
    await until(lambda: host.is_ready and host.is_idle)
    await feed(client, rate, place.count)
    await until(lambda: host.metrics.published >= place.count and host.is_idle)
    await host.stop()
    await client.close()
    return median(watch.waits) * 1000


async def feed(client: Any, rate: float, count: int) -> None:
    """Publishes at a rate, a few at a time."""
    messages = [encode(event, id=new_id(), key=None, attributes={"source": "bench"}) for event in paid_events(count)]
    began, sent = time.perf_counter(), 0
    while sent < count:
        due = min(count, int((time.perf_counter() - began + _BURST) * rate))
        for message in messages[sent:due]:
            await client.publish(message.topic, message.data, headers=headers_of(message))
        sent = max(sent, due)
        await asyncio.sleep(_BURST)


def paid_events(count: int) -> list[Any]:
    """Payments on many accounts."""
    return [Paid(account=str(number % KEYS), cents=number) for number in range(count)]


async def dead_rows(dsn: str) -> int:
    """What the relay, which has ended, has left in the outbox for a vacuum."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    async with asyncio.timeout(_LONGEST):
        while await connection.fetchval(_OTHERS):  # noqa: ASYNC110  # they add to the statistics when they end
            await asyncio.sleep(_BURST)
    count = int(await connection.fetchval(_DEAD))
    await connection.close()
    return count


def run(scale: Scale = FULL) -> Report:
    """The tables of medians, and the bars."""
    with running() as servers:
        runs = Runs(servers, scale)
        run_async(fill_stream(servers.nats.url, scale.of(MESSAGES)))
        dead: list[int] = []

        async def counted(place: Place) -> float:
            rate = await relayed(place)
            dead.append(await dead_rows(place.dsn))
            return rate

        ways = {RELAY: runs.way(ROWS, counted)}
        for window in WINDOWS if scale.share >= 1 else WINDOWS[:1]:
            ways[f"nats-py, {window} on their way"] = runs.way(ROWS, partial(by_nats, window=window))
        for at_once in AT_ONCE if scale.share >= 1 else AT_ONCE[:1]:
            full = ROWS // 5 if at_once > 1 else ROWS // 20
            ways[f"FastStream, {at_once} at once"] = runs.way(full, partial(by_faststream, at_once=at_once))
        rates = medians(ways, scale.rounds, note)
        most = run_async(runs.way(MESSAGES, partial(effects, kind="awaited", has_relay=True))())
        half = most / 2
        waits = medians(
            {
                "calm": runs.way(int(CALM * SECONDS), calm),
                "half": runs.way(int(half * SECONDS), partial(half_load, rate=half)),
            },
            min(3, scale.rounds),
            note,
        )
    return _report(rates, waits, dead=max(dead), half=half, rounds=scale.rounds)


def _report(rates: dict[str, float], waits: dict[str, float], *, dead: int, half: float, rounds: int) -> Report:
    nats = max(rate for name, rate in rates.items() if name.startswith("nats-py"))
    fast = max(rate for name, rate in rates.items() if name.startswith("FastStream"))
    head = (f"medians of {rounds}, {ROWS} rows", "rows/s", "÷ nats-py's best", "÷ FastStream's best")
    lines = [(name, f"{rate:,.0f}", f"{rate / nats:.2f}", f"{rate / fast:.1f}") for name, rate in rates.items()]
    more = [
        (f"{CALM}/s, one a transaction", f"{waits['calm']:.2f}"),
        (f"half load, {half:,.0f}/s", f"{waits['half']:.2f}"),
    ]
    text = f"{table(head, lines)}\n\n{table(('commit → confirmed', 'p50 ms'), more)}"
    bars = [
        Bar("relay ÷ nats-py's window", rates[RELAY] / nats, least=1.0),
        Bar("relay ÷ FastStream's publish", rates[RELAY] / fast, least=4),
        Bar("dead rows in the outbox", dead, most=0, unit=""),
        Bar("commit → confirmed at 100/s, p50", waits["calm"], most=3, unit="ms"),
        Bar("commit → confirmed at half load, p50", waits["half"], most=8, unit="ms"),
    ]
    return Report(text, bars)
