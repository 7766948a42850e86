"""Kafka when things change and go wrong: restarts, rebalances, killed consumers, foreign records, wrong credentials."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiokafka.producer.message_accumulator import MessageBatch

from tests.integration.kafka_proxy import KafkaProxy
from tests.integration.kafka_server import Absent, KafkaServer
from torpor import Event, Service, Tx
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions, options_of
from torpor.assembly import assemble
from torpor.kernel.errors import BrokerUnavailable, Rejected
from torpor.kernel.message import Message
from torpor.ports.consumer import Subscription
from torpor.runtime.settings import Settings
from torpor.runtime.subscriber import Subscriber
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take, take_until_sentinel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from torpor.ports.consumer import Consumer

    Connect = Callable[..., Awaitable[KafkaBroker]]

DEADLINE = 60
QUICK: dict[str, Any] = {"partitions": 1, "handover": 0.5, "session_timeout": 2.0, "commit_interval": 0.05}


def start(server: KafkaServer) -> KafkaServer:
    """A server that runs. Skips when there is none on this machine."""
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    return server


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """An Apache Kafka, which some tests restart."""
    server = start(KafkaServer(tmp_path_factory.mktemp("kafka")))
    yield server
    server.stop()


@pytest.fixture
async def connect(kafka: KafkaServer) -> AsyncIterator[Connect]:
    """Starts brokers, with options by name."""
    brokers: list[KafkaBroker] = []

    async def connect(**options: Any) -> KafkaBroker:
        brokers.append(KafkaBroker(KafkaOptions(**{"servers": (kafka.address,), **QUICK, **options})))
        await brokers[-1].start()
        return brokers[-1]

    yield connect
    for broker in brokers:
        await broker.stop()


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"integration.{uuid4().hex}"


async def publish_all(broker: KafkaBroker, messages: list[Message], size: int = 50) -> int:
    """Publishes in batches, each until it is confirmed, as the relay does. How many had to be repeated."""
    repetitions = 0
    for at in range(0, len(messages), size):
        while True:
            try:
                assert await broker.publish(messages[at : at + size]) == {}
            except BrokerUnavailable:
                repetitions += 1
                await asyncio.sleep(0.05)
            else:
                break
    return repetitions


async def consume_until(consumer: Consumer, last: int) -> list[int]:
    """Fetches and acknowledges until a number has come."""
    seen: list[int] = []
    while last not in seen:
        with contextlib.suppress(BrokerUnavailable):
            deliveries = await consumer.fetch(10)
            seen += numbers(deliveries)
            await consumer.acknowledge(deliveries)
    return seen


@pytest.mark.parametrize("end", [KafkaServer.stop, KafkaServer.kill], ids=["terminated", "killed"])
async def test_a_restart_of_the_server_is_survived(
    kafka: KafkaServer,
    connect: Connect,
    topic: str,
    end: Callable[[KafkaServer], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server ends and comes back: the same broker and consumer go on, nothing is lost, first deliveries keep
    their order, and the log has one line for the loss and one for the return."""
    broker = await connect(publish_timeout=2.0, request_timeout=2.0)
    consumer = await open_consumer(broker, topic)
    messages = counted(topic, range(600))
    async with asyncio.timeout(DEADLINE):
        consuming = asyncio.create_task(consume_until(consumer, 599))
        await publish_all(broker, messages[:300])
        publishing = asyncio.create_task(publish_all(broker, messages[300:]))
        await asyncio.sleep(0)
        await asyncio.to_thread(end, kafka)
        with pytest.raises(BrokerUnavailable, match=kafka.address):
            await broker.ping()
        await asyncio.to_thread(kafka.start)
        await publishing
        seen = await consuming
        await broker.ping()

    assert list(dict.fromkeys(seen)) == list(range(600))
    lost, found = [record.getMessage() for record in caplog.records if record.name == "torpor.kafka"]
    assert re.fullmatch(rf"Lost the connection to Kafka at {kafka.address}: .+\. Trying again\.", lost)
    assert re.fullmatch(rf"Connected to Kafka at {kafka.address} again after \d+\.\d s\.", found)


async def test_cut_connections_keep_the_order_of_publishing(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """Connections that are cut again and again, at any point of a batch, neither lose nor reorder."""
    async with asyncio.timeout(DEADLINE), KafkaProxy(port=kafka.front, target=kafka.behind) as proxy:
        broker = await connect(servers=(f"127.0.0.1:{kafka.front}",))
        consumer = await open_consumer(broker, topic)
        consuming = asyncio.create_task(consume_until(consumer, 999))
        publishing = asyncio.create_task(publish_all(broker, counted(topic, range(1000)), size=20))
        while not publishing.done():
            proxy.cut()
            await asyncio.wait({publishing}, timeout=0.3)
        publishing.result()
        seen = await consuming
        await broker.stop()

    assert list(dict.fromkeys(seen)) == list(range(1000))


async def test_a_frozen_network_is_unavailable_within_bounds_and_recovers(
    kafka: KafkaServer, connect: Connect, topic: str
) -> None:
    """When nothing gets through, publishing and pinging raise after their timeouts; then everything goes on."""
    async with asyncio.timeout(DEADLINE), KafkaProxy(port=kafka.front, target=kafka.behind) as proxy:
        broker = await connect(
            servers=(f"127.0.0.1:{kafka.front}",), name="frozen", publish_timeout=0.5, request_timeout=2.0
        )
        consumer = await open_consumer(broker, topic)
        await publish_all(broker, counted(topic, [0]))
        async with proxy.silenced("frozen"):
            with pytest.raises(BrokerUnavailable, match=r"has not confirmed 3 of 3 messages: no confirmation for 0\.5"):
                await broker.publish(counted(topic, range(1, 4)))
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                await broker.ping()
        await publish_all(broker, counted(topic, range(4, 8)))
        seen = await consume_until(consumer, 7)
        await broker.stop()

    assert {0, 4, 5, 6, 7} <= set(seen)


async def test_a_drain_redelivers_none(connect: Connect, topic: str) -> None:
    """Consumers that stop while others take over, with handlers at work, finish what they have in hand: nothing is
    given twice, and each key keeps its order."""
    first = await connect(partitions=6)
    messages = [
        Message(topic, str(n).encode(), id=str(n), type="t", key=str(n % 40), attributes={"source": "/t"})
        for n in range(1200)
    ]
    await first.declare([topic], [Subscription(topic, "group")])
    seen: list[int] = []
    running: list[tuple[KafkaBroker, Consumer, asyncio.Task[None]]] = []

    async def work(consumer: Consumer, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            fetching = asyncio.create_task(consumer.fetch(20))
            waiting = asyncio.create_task(stopping.wait())
            await asyncio.wait({fetching, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not fetching.done():
                fetching.cancel()
                await asyncio.wait({fetching})
            if fetching.cancelled():
                break
            deliveries = fetching.result()
            seen.extend(numbers(deliveries))
            await asyncio.sleep(0.005)
            await consumer.acknowledge(deliveries)

    async with asyncio.timeout(DEADLINE):
        ends = []
        for turn in range(4):
            broker = await connect(partitions=6, handover=3.0)
            consumer = await open_consumer(broker, topic)
            ends.append(asyncio.Event())
            running.append((broker, consumer, asyncio.create_task(work(consumer, ends[-1]))))
            await publish_all(first, messages[turn * 300 : turn * 300 + 300])
            while len(seen) < turn * 300 + 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            if turn:
                ends[turn - 1].set()
                await running[turn - 1][2]
                await running[turn - 1][1].stop()
                await running[turn - 1][0].stop()
        while len(seen) < 1200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ends[-1].set()
        await running[-1][2]

    assert sorted(seen) == list(range(1200))
    for key in range(40):
        of_key = [number for number in seen if number % 40 == key]
        assert of_key == sorted(of_key)


HOLDER = """
import asyncio, sys
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions
from torpor.ports.consumer import Subscription

async def main() -> None:
    broker = KafkaBroker(KafkaOptions(servers=(sys.argv[1],), partitions=1, session_timeout=2.0))
    await broker.start()
    subscription = Subscription(sys.argv[2], "group")
    await broker.declare([], [subscription])
    consumer = await broker.consume(subscription)
    held = []
    while len(held) < 5:
        held += await consumer.fetch(5)
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_what_a_killed_process_held_comes_first(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """A consumer's process is killed with deliveries in hand: the next one gets all of them within the session
    timeout, and before what is newer."""
    broker = await connect()
    await broker.declare([topic], [Subscription(topic, "group")])
    await broker.publish(counted(topic, range(20)))
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, kafka.address, topic, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout
    async with asyncio.timeout(DEADLINE):
        assert await holder.stdout.readline() == b"held\n"
        standing_by = await open_consumer(broker, topic)
        holder.kill()
        await holder.communicate()
        await broker.publish(counted(topic, range(20, 40)))

        seen: list[int] = []
        while len(seen) < 40:
            deliveries = await standing_by.fetch(40)
            await standing_by.acknowledge(deliveries)
            seen += numbers(deliveries)
    assert seen == list(range(40))


async def test_partitions_that_are_added_are_consumed_from_their_beginning(connect: Connect, topic: str) -> None:
    """A topic gets more partitions while it is consumed: nothing of the new ones is missed."""
    from aiokafka.admin import NewPartitions

    broker = await connect(metadata_age=0.5)
    consumer = await open_consumer(broker, topic)
    await publish_all(broker, counted(topic, range(50)))
    assert numbers(await take(consumer, 50)) == list(range(50))

    await broker._connection.admin.create_partitions({topic: NewPartitions(4)})
    async with asyncio.timeout(DEADLINE):
        while await _spread(broker, topic) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await publish_all(broker, counted(topic, range(50, 250)))
        seen = set[int]()
        while len(seen) < 200:
            deliveries = await consumer.fetch(50)
            seen |= set(numbers(deliveries))
            await consumer.acknowledge(deliveries)
    assert seen == set(range(50, 250))


async def _spread(broker: KafkaBroker, topic: str) -> int:
    """How many partitions the publisher knows of."""
    producer = broker._publisher._producer
    return len(await producer.partitions_for(topic)) if producer else 0


async def test_more_partitions_keep_the_order_of_each_key(connect: Connect, topic: str) -> None:
    """Over eight partitions and two consumers, each key's messages come in order and once."""
    broker, other = await connect(partitions=8), await connect(partitions=8)
    consumers = [await open_consumer(broker, topic), await open_consumer(other, topic)]
    messages = [
        Message(topic, str(n).encode(), id=str(n), type="t", key=f"k{n % 50}", attributes={"source": "/t"})
        for n in range(1000)
    ]
    await publish_all(broker, messages, size=100)
    seen: list[int] = []

    async def consume(consumer: Consumer) -> None:
        while True:
            deliveries = await consumer.fetch(50)
            seen.extend(numbers(deliveries))
            await consumer.acknowledge(deliveries)

    async with asyncio.timeout(DEADLINE):
        tasks = [asyncio.create_task(consume(consumer)) for consumer in consumers]
        while len(set(seen)) < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for key in range(50):
        of_key = list(dict.fromkeys(n for n in seen if n % 50 == key))
        assert of_key == list(range(key, 1000, 50))


async def test_foreign_records_are_taken_as_they_are(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """Keys, headers and tombstones of other programs arrive; a header that is no text is told, and hides nothing."""
    from aiokafka import AIOKafkaProducer

    broker = await connect()
    consumer = await open_consumer(broker, topic)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.address)
    await producer.start()
    await producer.send_and_wait(
        topic, b"{}", key=b"k", headers=[("x-app", b"erp"), ("bin", b"\xff\x01"), ("nil", None)]
    )
    await producer.send_and_wait(topic, None, key=b"k")
    await producer.send_and_wait(topic, b"", key=b"\xff")
    await producer.send_and_wait(topic, b"{}", headers=[("ce_id", b"\xff"), ("ce_type", b"t")])
    await producer.stop()

    plain, tombstone, empty, broken = await take(consumer, 4)

    assert (plain.message.key, plain.message.id, plain.fault) == ("k", f"{topic}:0:0", None)
    assert plain.message.attributes == {"x-app": "erp", "bin": "\\xff\x01", "nil": ""}
    assert (tombstone.message.key, tombstone.message.data) == ("k", b"")
    assert tombstone.message.attributes == {"tombstone": "true"}
    assert (empty.message.key, empty.message.attributes) == ("\\xff", {})
    assert broken.fault == "Header 'ce_id' is no UTF-8 text."


async def test_a_tombstone_can_be_published(connect: Connect, topic: str) -> None:
    """A message with the attribute `tombstone`, a key and no payload becomes a null value, and comes back as one."""
    broker = await connect()
    consumer = await open_consumer(broker, topic)
    attributes = {"source": "/t", "tombstone": "true"}
    sent = Message(topic, b"", id="1", type="gone", key="k", attributes=attributes)

    await broker.publish([sent])

    (delivery,) = await take(consumer, 1)
    assert delivery.message == sent


async def test_what_a_topic_does_not_take_is_refused_before_it_is_sent(connect: Connect, topic: str) -> None:
    """A topic with a limit of its own refuses what is larger, with what follows on its key; the rest is stored. A
    topic that nobody has declared is refused."""
    broker = await connect(settings={"max.message.bytes": "2000"})
    consumer = await open_consumer(broker, topic)
    sizes = [10, 5000, 10, 1500, 1500]
    messages = [
        Message(topic, b"x" * size, id=str(n), type="t", key="big" if size == 5000 else f"k{n}")
        for n, size in enumerate(sizes)
    ]
    refusals = await broker.publish([*messages, Message(f"{topic}.unknown", b"", id="9", type="t")])

    assert sorted(refusals) == [1, 5]
    assert "takes at most 2000" in str(refusals[1])
    assert "has no topic" in str(refusals[5])
    assert all(isinstance(refusal, Rejected) for refusal in refusals.values())
    assert [delivery.message.id for delivery in await take(consumer, 4)] == ["0", "2", "3", "4"]


async def test_a_group_begins_where_the_topic_ended(connect: Connect, topic: str) -> None:
    """A new group is given what is published after it was declared, and nothing older."""
    broker = await connect()
    await broker.declare([topic], [])
    await publish_all(broker, counted(topic, range(10)))
    consumer = await open_consumer(broker, topic)
    await publish_all(broker, counted(topic, range(10, 20)))

    assert numbers(await take_until_sentinel(broker, consumer, topic)) == list(range(10, 20))


async def test_a_topic_that_is_made_anew_is_consumed_from_its_beginning(connect: Connect, topic: str) -> None:
    """Somebody deletes a topic under a running service: it is made again, and what is published then is consumed."""
    broker = await connect(metadata_age=0.5, publish_timeout=2.0)
    consumer = await open_consumer(broker, topic)
    await publish_all(broker, counted(topic, range(20)))
    assert numbers(await take(consumer, 20)) == list(range(20))

    await broker._connection.admin.delete_topics([topic])
    async with asyncio.timeout(DEADLINE):
        consuming = asyncio.create_task(consume_until(consumer, 24))
        await publish_all(broker, counted(topic, range(20, 25)))
        seen = await consuming

    assert set(seen) == set(range(20, 25))


async def test_starting_without_a_server_names_it_without_secrets() -> None:
    """Nobody listens: start fails with the address, and no credentials; it may be called again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        broker = KafkaBroker(options_of(f"kafka://me:s3cret@127.0.0.1:{port}", name="t"))
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1:{port} cannot be reached") as caught:
                await broker.start()
            assert "s3cret" not in str(caught.value) + repr(broker) + repr(broker.options)
    await broker.stop()


async def test_wrong_credentials_are_told_without_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server that asks for a password lets the right one in, and refuses a wrong one and none."""
    server = KafkaServer(tmp_path_factory.mktemp("sasl"), sasl=("shop", "right-s3cret"))
    await asyncio.to_thread(start, server)
    try:
        for credentials in ("shop:wrong-s3cret@", ""):
            broker = KafkaBroker(options_of(f"kafka://{credentials}{server.address}", name="t"))
            with pytest.raises(
                BrokerUnavailable, match=r"cannot be reached: it (refuses user 'shop'|hung up)"
            ) as caught:
                await broker.start()
            assert "s3cret" not in str(caught.value)
            await broker.stop()
        broker = KafkaBroker(options_of(f"kafka://shop:right%2Ds3cret@{server.address}?partitions=1", name="t"))
        await broker.start()
        consumer = await open_consumer(broker, "secured")
        await broker.publish(counted("secured", range(3)))
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
        await broker.stop()
    finally:
        server.stop()


async def test_what_is_used_of_the_clients_is_there(connect: Connect, topic: str) -> None:
    """A canary: what the adapter uses of FastStream and aiokafka, public or not, is where it was."""
    broker = await connect()
    consumer: Any = await open_consumer(broker, topic)
    await broker.publish(counted(topic, [1]))
    await take(consumer, 1)

    build = broker._connection._build
    assert isinstance(build, functools.partial)
    assert {"bootstrap_servers", "client_id", "security_protocol", "request_timeout_ms"} <= set(build.keywords)
    producer: Any = broker._publisher._producer
    assert callable(producer._message_accumulator.fail_all)
    assert isinstance(producer._message_accumulator._pending_batches, set)
    assert isinstance(producer._message_accumulator._batches, dict)
    assert "_drain_waiter" in MessageBatch.__init__.__code__.co_names
    assert callable(producer._sender._fail_all)
    assert not producer._sender.sender_task.done()
    assert callable(producer.client.close)
    assert consumer._client._coordinator.generation > 0
    assert callable(consumer._client._client.close)
    assert isinstance(consumer._client._fetcher._pending_tasks, set)
    assert consumer._sticky.member_assignment


class Spoken(Event, topic="beginning.spoken"):
    number: int


async def test_those_that_run_together_hear_each_other_from_the_first_event(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published on a new Kafka before a listener's consumer is open is heard by it: its group has begun."""
    speaker, listener, heard, late = Service("speaker"), Service("listener"), list[int](), list[Subscriber]()

    @speaker.post("/speak", public=True)
    async def speak(tx: Tx) -> None:
        tx.publish(Spoken(number=7))

    @listener.on(Spoken)
    async def hear(event: Spoken) -> None:
        heard.append(event.number)

    def begin_late(subscriber: Subscriber) -> None:
        late.append(subscriber)

    begin = Subscriber.start
    monkeypatch.setattr(Subscriber, "start", begin_late)
    settings = Settings.read({"TORPOR_BROKER_URL": f"kafka://{kafka.address}", "TORPOR_DATABASE_URL": "memory://"})
    deployment = assemble([speaker, listener], settings)
    await deployment.start()
    host = deployment.hosts[0]
    async with asyncio.timeout(DEADLINE):
        while not (host.is_ready and late):  # noqa: ASYNC110  # readiness has no event
            await asyncio.sleep(0.05)
        await host.responder(host.plan.routes[0].handled).respond({})
        while not host.is_idle:  # noqa: ASYNC110  # nor has idleness
            await asyncio.sleep(0.05)
        begin(late[0])
        while heard != [7]:  # noqa: ASYNC110  # nor has a list
            await asyncio.sleep(0.05)
    await deployment.stop()
