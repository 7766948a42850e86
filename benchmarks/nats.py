"""NATS: consuming into typed handlers and publishing, all acknowledged, beside the bare client and FastStream.

Each message is 300 bytes of JSON under one of a thousand keys, in a stream on disk, and is published beforehand for
those that consume. Torpor runs a service without a database: pull requests ahead of need, 16 lanes by key, a typed
handler, an acknowledgement each. The bare loop fetches a hundred at a time, validates the same model and acknowledges
each. FastStream is given a fifth of the messages. CPU is the process's own; the server is another process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kafka import Clock, Cost, rows
from benchmarks.report import Bar, Report, table
from benchmarks.scale import FULL
from benchmarks.work import KEYS, STREAM, TOPIC, Paid, fill_stream, run_async
from torpor import Service, new_id
from torpor.adapters.direct.store import DirectStore
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.system.clock import SystemClock
from torpor.contract.codec import encode
from torpor.kernel import cloudevents
from torpor.runtime.binding import bind
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks.scale import Scale
    from torpor.kernel.message import Message

    Way = Callable[[str, int], Coroutine[Any, Any, "Cost"]]

MESSAGES = 20_000
SLOW = 5  # FastStream is given a fifth of the messages
FETCH = 100
CALL = 2000  # messages in a publishing of the relay
AT_ONCE = 200
TORPOR, BARE, FAST = "Torpor", "bare nats-py", "FastStream"


async def torpor(url: str, count: int) -> Cost:
    """A service without a database, its order kept by key."""
    name = f"bench-{new_id()[-8:]}"
    clock, service, done = Clock(count), Service(name), 0

    async def handle(event: Paid) -> None:  # noqa: ARG001
        nonlocal done
        done += 1
        if done >= clock.next:
            clock.mark(done)

    service.on(Paid, concurrency=16)(handle)
    broker = JetStreamBroker(JetStreamOptions(servers=url, name=name))
    host = Host(bind(service), broker=broker, store=DirectStore(broker, name), clock=SystemClock(), duties=[])
    await host.start()
    await clock.finished.wait()
    await host.stop(5)
    return clock.cost


async def bare(url: str, count: int) -> Cost:
    """`fetch(100)`, `model_validate_json`, `ack`."""
    import nats

    clock, client, done = Clock(count), await nats.connect(url), 0
    puller = await client.jetstream().pull_subscribe(TOPIC, durable=f"bare-{new_id()[-8:]}", stream=STREAM)
    while not clock.finished.is_set():
        fetched = await puller.fetch(FETCH)
        for message in fetched:
            Paid.model_validate_json(message.data)
            await message.ack()
        done += len(fetched)
        if done >= clock.next:
            clock.mark(done)
    await client.close()
    return clock.cost


async def faststream(url: str, count: int) -> Cost:
    """FastStream's pull subscriber."""
    from faststream.nats import JStream, NatsBroker, PullSub

    clock, broker, done = Clock(count), NatsBroker(url, logger=None), 0

    @broker.subscriber(
        TOPIC,
        stream=JStream(STREAM, declare=False),
        durable=f"fast-{new_id()[-8:]}",
        pull_sub=PullSub(batch_size=FETCH, timeout=0.2),
    )
    async def handle(event: Paid) -> None:  # noqa: ARG001
        nonlocal done
        done += 1
        if done >= clock.next:
            clock.mark(done)

    await broker.start()
    await clock.finished.wait()
    await broker.stop()
    return clock.cost


def messages(count: int) -> list[Message]:
    """What is published."""
    events = (Paid(account=str(number % KEYS), cents=number) for number in range(count))
    return [encode(event, id=new_id(), key=None, attributes={"source": "bench"}) for event in events]


def headers_of(message: Message) -> dict[str, str]:
    """The headers that Torpor sends."""
    return {**cloudevents.encode(message, cloudevents.NATS), "Nats-Msg-Id": message.id}


async def publish_torpor(url: str, count: int) -> Cost:
    """As the relay does: calls of many, each confirmed."""
    broker = JetStreamBroker(JetStreamOptions(servers=url))
    await broker.start()
    await broker.declare([TOPIC], [])
    made = messages(count)
    began = time.process_time(), time.perf_counter()
    for at in range(0, count, CALL):
        await broker.publish(made[at : at + CALL])
    cost = Cost(count, time.process_time() - began[0], time.perf_counter() - began[1])
    await broker.stop()
    return cost


async def publish_bare(url: str, count: int, window: int) -> Cost:
    """`publish_async` of nats-py, so many on their way."""
    import nats

    client = await nats.connect(url)
    stream = client.jetstream(publish_async_max_pending=window)
    made = [(message.data, headers_of(message)) for message in messages(count)]
    began = time.process_time(), time.perf_counter()
    for data, headers in made:
        await stream.publish_async(TOPIC, data, headers=headers)
    await stream.publish_async_completed()
    cost = Cost(count, time.process_time() - began[0], time.perf_counter() - began[1])
    await client.close()
    return cost


async def publish_faststream(url: str, count: int) -> Cost:
    """FastStream's `publish`, 200 gathered at once."""
    from faststream.nats import NatsBroker

    broker = NatsBroker(url, logger=None)
    await broker.start()
    made = [(Paid.model_validate_json(message.data), headers_of(message)) for message in messages(count)]
    began = time.process_time(), time.perf_counter()
    for at in range(0, count, AT_ONCE):
        calls = [
            broker.publish(event, TOPIC, stream=STREAM, headers=headers) for event, headers in made[at : at + AT_ONCE]
        ]
        await asyncio.gather(*calls)
    cost = Cost(count, time.process_time() - began[0], time.perf_counter() - began[1])
    await broker.stop()
    return cost


CONSUMING: dict[str, Way] = {
    f"{BARE}, fetch({FETCH}) and ack": bare,
    TORPOR: torpor,
    f"{FAST}, pull": faststream,
}
PUBLISHING: dict[str, Way] = {
    f"{BARE}, 256 on their way": partial(publish_bare, window=256),
    f"{BARE}, 1024 on their way": partial(publish_bare, window=1024),
    TORPOR: publish_torpor,
    f"{FAST}, {AT_ONCE} gathered": publish_faststream,
}


def rounds(url: str, ways: dict[str, Way], count: int, number: int) -> dict[str, list[Cost]]:
    """Each way in turn, again and again."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(number):
        for name, way in ways.items():
            costs[name].append(run_async(way(url, count // SLOW if name.startswith(FAST) else count)))
    return costs


def run(scale: Scale = FULL) -> Report:
    """Measures, and tells the bars."""
    count = scale.of(MESSAGES, least=200)
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedNats(Path(folder))
        server.start()
        try:
            run_async(fill_stream(server.url, count))
            consuming = rounds(server.url, CONSUMING, count, scale.rounds)
            publishing = rounds(server.url, PUBLISHING, count, scale.rounds)
        finally:
            server.stop()
    return _report(consuming, publishing)


def _report(consuming: dict[str, list[Cost]], publishing: dict[str, list[Cost]]) -> Report:
    loop, pull = [name for name in CONSUMING if name != TORPOR]
    *windows, _, gather = PUBLISHING
    _, _, rate = rows(publishing, windows[0])
    best = max(windows, key=lambda name: rate[name])
    published, _, _ = rows(publishing, best)
    consumed, _, taken = rows(consuming, loop)
    columns = ("way", "CPU µs a message", "to the bare client", "messages a second", "to the bare client")
    text = f"Consuming\n\n{table(columns, consumed)}\n\nPublishing, acknowledged\n\n{table(columns, published)}"
    bars = [
        Bar("consuming, rate to the bare fetch loop", taken[TORPOR] / taken[loop], least=1.5),
        Bar("consuming, rate to FastStream's pull", taken[TORPOR] / taken[pull], least=6.0),
        Bar("publishing, rate to the bare window", rate[TORPOR] / rate[best], least=0.9),
        Bar("publishing, rate to FastStream's gather", rate[TORPOR] / rate[gather], least=3.0),
    ]
    return Report(text, bars)
