"""Kafka: consuming into typed handlers and publishing acknowledged, beside the bare client and FastStream.

Each message is 300 bytes of JSON under one of a thousand keys, on one partition, and is published beforehand for those
that consume. Torpor runs a service without a database: fetch, lanes by key, a typed handler, and a committed watermark.
The bare loop validates the same model and commits each batch. CPU is the process's own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.report import Bar, Report, table
from benchmarks.scale import FULL
from benchmarks.servers import Unavailable
from benchmarks.work import KEYS, Paid, run_async
from tests.integration.kafka_server import Absent, KafkaServer
from torpor import Service, new_id
from torpor.adapters.direct.store import DirectStore
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions
from torpor.adapters.system.clock import SystemClock
from torpor.contract.codec import encode
from torpor.ports.consumer import Subscription
from torpor.runtime.binding import bind
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from benchmarks.scale import Scale
    from torpor.kernel.message import Message

    Way = Callable[[str, str, int], Coroutine[Any, Any, "Cost"]]

MESSAGES = 30_000
PUBLISHED = 20_000
TOPIC = "bench.paid"
CALL = 500  # messages in a publishing of the relay


class Cost:
    """What a run took for each message."""

    __slots__ = ("cpu", "rate")

    def __init__(self, count: int, cpu: float, wall: float) -> None:
        self.cpu = cpu / count * 1e6
        self.rate = count / wall


class Clock:
    """Takes the time in midstream, between the first and the last tenth: whoever fetches ahead has as much in hand at
    the end as at the beginning. A handler counts by itself, and looks here for the next mark only."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.next = count // 10
        self.most = min(500, self.next)  # to be taken at once
        self.finished = asyncio.Event()
        self._marks: list[tuple[int, float, float]] = []

    def mark(self, done: int) -> None:
        """Notes that so many are handled."""
        self._marks.append((done, time.process_time(), time.perf_counter()))
        self.next = self.count - self.count // 10 if len(self._marks) == 1 else self.count
        if done >= self.count:
            self.finished.set()

    @property
    def cost(self) -> Cost:
        """What it took."""
        (before, cpu, wall), (after, later_cpu, later_wall), *_ = self._marks
        return Cost(after - before, later_cpu - cpu, later_wall - wall)


def messages(count: int) -> list[Message]:
    """What is published."""
    return [
        encode(Paid(account=str(n % KEYS), cents=n), id=new_id(), key=None, attributes={"source": "bench"})
        for n in range(count)
    ]


async def torpor(address: str, group: str, count: int) -> Cost:
    """A service without a database."""
    clock, service, done = Clock(count), Service(group), 0

    async def handle(event: Paid) -> None:  # noqa: ARG001
        nonlocal done
        done += 1
        if done >= clock.next:
            clock.mark(done)

    service.on(Paid)(handle)
    broker = KafkaBroker(KafkaOptions(servers=(address,), name=group))
    host = Host(bind(service), broker=broker, store=DirectStore(broker, service.name), clock=SystemClock(), duties=[])
    await host.start()
    await clock.finished.wait()
    await host.stop(5)
    return clock.cost


async def bare(address: str, group: str, count: int) -> Cost:
    """`getmany`, `model_validate_json`, a commit a batch."""
    from aiokafka import AIOKafkaConsumer

    clock, done = Clock(count), 0
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=address,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    while not clock.finished.is_set():
        for place, records in (await consumer.getmany(timeout_ms=1000, max_records=clock.most)).items():
            for record in records:
                Paid.model_validate_json(record.value)
            done += len(records)
            if done >= clock.next:
                clock.mark(done)
            await consumer.commit({place: records[-1].offset + 1})
    await consumer.stop()
    return clock.cost


async def faststream(address: str, group: str, count: int) -> Cost:
    """FastStream's subscriber as it comes."""
    clock, broker, done = Clock(count), _faststream(address), 0

    @broker.subscriber(TOPIC, group_id=group, auto_offset_reset="earliest")  # type: ignore[untyped-decorator]
    async def handle(event: Paid) -> None:  # noqa: ARG001
        nonlocal done
        done += 1
        if done >= clock.next:
            clock.mark(done)

    await broker.start()
    await clock.finished.wait()
    await broker.stop()
    return clock.cost


async def faststream_batch(address: str, group: str, count: int) -> Cost:
    """FastStream's batch subscriber."""
    clock, broker, done = Clock(count), _faststream(address), 0
    subscribe = broker.subscriber(
        TOPIC, group_id=group, auto_offset_reset="earliest", batch=True, max_records=clock.most
    )

    @subscribe  # type: ignore[untyped-decorator]
    async def handle(events: list[Paid]) -> None:
        nonlocal done
        done += len(events)
        if done >= clock.next:
            clock.mark(done)

    await broker.start()
    await clock.finished.wait()
    await broker.stop()
    return clock.cost


def _faststream(address: str) -> Any:
    from faststream.kafka import KafkaBroker as Peer

    return Peer(address, logger=None)


async def publish_torpor(address: str, group: str, count: int) -> Cost:
    """As the relay does: calls of 500, each confirmed."""
    broker = KafkaBroker(KafkaOptions(servers=(address,), name=group))
    await broker.start()
    made = messages(count)
    await broker.publish(made[:1])
    began = time.process_time(), time.perf_counter()
    for at in range(0, count, CALL):
        await broker.publish(made[at : at + CALL])
    cost = Cost(count, time.process_time() - began[0], time.perf_counter() - began[1])
    await broker.stop()
    return cost


async def publish_bare(address: str, group: str, count: int) -> Cost:
    """`send` of aiokafka in windows of 500, idempotent."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=address, client_id=group, acks="all", enable_idempotence=True)
    await producer.start()
    made = [(message.data, (message.key or "").encode()) for message in messages(count)]
    await producer.send_and_wait(TOPIC, made[0][0], key=made[0][1])
    began = time.process_time(), time.perf_counter()
    for at in range(0, count, CALL):
        sent = [await producer.send(TOPIC, data, key=key) for data, key in made[at : at + CALL]]
        await asyncio.gather(*sent)
    cost = Cost(count, time.process_time() - began[0], time.perf_counter() - began[1])
    await producer.stop()
    return cost


async def publish_faststream(address: str, group: str, count: int) -> Cost:  # noqa: ARG001
    """FastStream's `publish`, 500 gathered at once."""
    broker = _faststream(address)
    await broker.start()
    made = [(Paid.model_validate_json(message.data), (message.key or "").encode()) for message in messages(count)]
    await broker.publish(made[0][0], TOPIC, key=made[0][1])
    began = time.process_time(), time.perf_counter()
    for at in range(0, count, CALL):
        await asyncio.gather(*(broker.publish(event, TOPIC, key=key) for event, key in made[at : at + CALL]))
    cost = Cost(count, time.process_time() - began[0], time.perf_counter() - began[1])
    await broker.stop()
    return cost


CONSUMING: dict[str, Way] = {
    "bare aiokafka, getmany": bare,
    "Torpor": torpor,
    "FastStream": faststream,
    "FastStream, batches": faststream_batch,
}
PUBLISHING: dict[str, Way] = {
    "bare aiokafka, window": publish_bare,
    "Torpor": publish_torpor,
    "FastStream, gather": publish_faststream,
}


async def _fill(address: str, count: int) -> None:
    broker = KafkaBroker(KafkaOptions(servers=(address,), partitions=1))
    await broker.start()
    await broker.declare([TOPIC], [])
    made = messages(count)
    for at in range(0, count, CALL):
        await broker.publish(made[at : at + CALL])
    await broker.stop()


async def _begin(address: str, group: str) -> None:
    """A group that has been declared when the topic was empty."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group, enable_auto_commit=False)
    consumer.assign([TopicPartition(TOPIC, 0)])
    await consumer.start()
    await consumer.commit({TopicPartition(TOPIC, 0): 0})
    await consumer.stop()


def rounds(address: str, ways: dict[str, Way], count: int, number: int) -> dict[str, list[Cost]]:
    """Each way in turn, again and again."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(number):
        for name, way in ways.items():
            group = f"bench-{new_id()[-8:]}"
            if ways is CONSUMING:
                from torpor.adapters.kafka.topics import group_of

                named = group_of(Subscription(TOPIC, group)) if way is torpor else group
                run_async(_begin(address, named))
            _freeze()
            costs[name].append(run_async(way(address, group, count)))
    return costs


def _freeze() -> None:
    """Has the collector leave alone what is loaded, as `torpor run` does: for every way and every peer alike."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def rows(costs: dict[str, list[Cost]], base: str) -> tuple[list[Sequence[str]], dict[str, float], dict[str, float]]:
    """The table's rows, and the medians of CPU and of rate."""
    cpu = {name: median(cost.cpu for cost in of) for name, of in costs.items()}
    rate = {name: median(cost.rate for cost in of) for name, of in costs.items()}
    told: list[Sequence[str]] = [
        (
            name,
            f"{cpu[name]:.1f}",
            f"{cpu[name] / cpu[base]:.2f}",
            f"{rate[name]:,.0f}",
            f"{rate[name] / rate[base]:.2f}",
        )
        for name in costs
    ]
    return told, cpu, rate


def run(scale: Scale = FULL) -> Report:
    """Measures, and tells the bars."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        server = KafkaServer(Path(folder))
        try:
            server.start()
        except Absent as error:
            raise Unavailable(str(error)) from error
        try:
            count = scale.of(MESSAGES)
            run_async(_fill(server.address, count))
            consuming = rounds(server.address, CONSUMING, count, scale.rounds)
            publishing = rounds(server.address, PUBLISHING, scale.of(PUBLISHED), scale.rounds)
        finally:
            server.stop()
    consumed, cpu, _ = rows(consuming, "bare aiokafka, getmany")
    published, _, rate = rows(publishing, "bare aiokafka, window")
    columns = ("way", "CPU µs a message", "to the bare client", "messages a second", "to the bare client")
    text = f"Consuming\n\n{table(columns, consumed)}\n\nPublishing, acknowledged\n\n{table(columns, published)}"
    bars = [
        Bar("consuming, CPU to the bare loop", cpu["Torpor"] / cpu["bare aiokafka, getmany"], most=1.5),
        Bar("consuming, CPU to FastStream", cpu["Torpor"] / cpu["FastStream"], most=1 / 3),
        Bar("consuming, CPU to FastStream's batches", cpu["Torpor"] / cpu["FastStream, batches"], most=1.0),
        Bar("publishing, rate to the bare window", rate["Torpor"] / rate["bare aiokafka, window"], least=0.9),
        Bar("publishing, rate to FastStream's gather", rate["Torpor"] / rate["FastStream, gather"], least=3.0),
    ]
    return Report(text, bars)
