"""Several processes of one group on NATS: killed, frozen, woken; durables of other kinds; servers that are too old."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import nats
import pytest

from tests.integration.test_nats import Proxy, outage
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.ports.consumer import Subscription
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take, take_until_sentinel

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Awaitable, Callable

    from torpor.adapters.nats.embedded import EmbeddedNats

    Connect = Callable[..., Awaitable[JetStreamBroker]]
    Ask = Callable[..., Awaitable[dict[str, Any]]]

DEADLINE = 60

WORKER = """
import asyncio, sys
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.ports.consumer import Subscription

async def main() -> None:
    broker = JetStreamBroker(JetStreamOptions(servers=sys.argv[1], ack_wait=60.0, pin_timeout=float(sys.argv[3])))
    await broker.start()
    subscription = Subscription(sys.argv[2], "group")
    await broker.declare([sys.argv[2]], [subscription])
    consumer = await broker.consume(subscription)
    print("up", flush=True)
    while True:
        deliveries = await consumer.fetch(4)
        print(*(int(delivery.message.data) for delivery in deliveries), flush=True)
        await asyncio.sleep(0.005)
        await consumer.acknowledge(deliveries)

asyncio.run(main())
"""


class Worker:
    """A process that consumes, and tells what it was given."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.given: list[int] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.given += map(int, line.split())

    async def end(self) -> None:
        """Kills it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.fixture
async def work(nats_server: EmbeddedNats, topic: str) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    """Starts processes of one group."""
    workers: list[Worker] = []

    async def work(pin_timeout: float = 3.0) -> Worker:
        arguments = (sys.executable, "-c", WORKER, nats_server.url, topic, str(pin_timeout))
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout
        assert await process.stdout.readline() == b"up\n"
        workers.append(Worker(process))
        return workers[-1]

    yield work
    for worker in workers:
        await worker.end()


async def first_to_have(workers: list[Worker], number: int) -> Worker:
    """The process that is given a number."""
    while True:
        for worker in workers:
            if number in worker.given:
                return worker
        await asyncio.sleep(0.01)


async def test_killed_and_frozen_processes_are_replaced_in_order(
    nats_server: EmbeddedNats,
    connect: Connect,
    topic: str,
    work: Callable[[], Awaitable[Worker]],
    record_property: Callable[[str, object], None],
) -> None:
    """Of three processes the active one is frozen, the next one killed, and the first wakes: each is given a run of the
    topic in order and without a gap, so that whoever is first with a message keeps the order, and nothing is lost."""
    broker = await connect(nats_server)
    workers = [await work(), await work(), await work()]
    async with asyncio.timeout(DEADLINE):
        await broker.publish(counted(topic, range(1000)))
        frozen = await first_to_have(workers, 200)
        frozen.process.send_signal(signal.SIGSTOP)
        since = time.monotonic()
        killed = await first_to_have([worker for worker in workers if worker is not frozen], 300)
        record_property("seconds after a SIGSTOP", time.monotonic() - since)
        killed.process.kill()
        since = time.monotonic()
        (last,) = (worker for worker in workers if worker not in (frozen, killed))
        await first_to_have([last], 500)
        record_property("seconds after a SIGKILL", time.monotonic() - since)
        frozen.process.send_signal(signal.SIGCONT)
        await broker.publish(counted(topic, range(1000, 1500)))
        await first_to_have([last], 1499)

    for worker in workers:
        assert worker.given == list(range(worker.given[0], worker.given[-1] + 1))
    assert set().union(*(worker.given for worker in workers)) == set(range(1500))


async def test_what_a_killed_process_held_comes_without_anything_newer(
    nats_server: EmbeddedNats, connect: Connect, topic: str, work: Callable[[], Awaitable[Worker]]
) -> None:
    """A process is killed with all that there is in hand and ahead: the next one need not wait for the ack wait, nor
    for a new message."""
    broker = await connect(nats_server, ack_wait=60.0)
    await broker.declare([topic], [Subscription(topic, "group")])
    await broker.publish(counted(topic, range(200)))
    worker = await work()
    async with asyncio.timeout(DEADLINE):
        await first_to_have([worker], 3)
        await worker.end()
        consumer = await open_consumer(broker, topic)
        seen: list[int] = []
        while not seen or seen[-1] != 199:
            deliveries = await consumer.fetch(50)
            seen += numbers(deliveries)
            await consumer.acknowledge(deliveries)

    assert seen == list(range(seen[0], 200))
    assert seen[0] <= worker.given[-1] + 1


async def test_a_killed_process_is_not_waited_for(
    nats_server: EmbeddedNats, connect: Connect, topic: str, work: Callable[..., Awaitable[Worker]]
) -> None:
    """The connection of a process that is killed ends, which those who stand by notice long before the pin timeout."""
    broker = await connect(nats_server)
    observer = await nats.connect(nats_server.url)
    answers = await observer.subscribe("_INBOX.torpor.*.*")
    workers = [await work(pin_timeout=120.0) for _ in range(3)]
    await broker.publish(counted(topic, range(1)))
    async with asyncio.timeout(DEADLINE):
        first = await first_to_have(workers, 0)
        saw: set[str] = set()
        while len(saw) < len(workers) - 1:
            saw.add((await answers.next_msg(DEADLINE)).subject)
        await observer.close()
        await first.end()
        await broker.publish(counted(topic, range(1, 2)))
        assert await first_to_have(workers, 1) is not first


async def test_what_is_in_hand_is_not_handed_out_twice(
    nats_server: EmbeddedNats, connect: Connect, ask: Ask, topic: str
) -> None:
    """A consumer that loses its connection, and has the group's messages from the first on again, knows those that it
    works on and those that it has acknowledged behind them."""
    async with asyncio.timeout(DEADLINE), Proxy(nats_server) as proxy:
        broker = await connect(proxy)
        consumer = await open_consumer(broker, topic)
        await broker.publish(counted(topic, range(30)))
        held = await take(consumer, 20, acknowledge=False)
        await consumer.acknowledge(held[10:])

        proxy.cut()
        await outage(broker)

        rest: list[int] = []
        while len(rest) < 10:
            with contextlib.suppress(BrokerUnavailable):
                deliveries = await consumer.fetch(10)
                rest += numbers(deliveries)
                await consumer.acknowledge(deliveries)
        await consumer.acknowledge(held[:10])
        assert rest == list(range(20, 30))
        assert await take_until_sentinel(broker, consumer, topic) == []
        await broker.stop()
    info = await ask(nats_server, f"CONSUMER.INFO.{topic.replace('.', '_')}.group")
    assert (info["num_ack_pending"], info["num_pending"]) == (0, 0)


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_durable_of_the_other_kind_is_changed(
    nats_server: EmbeddedNats, connect: Connect, ask: Ask, topic: str, *, is_shared: bool
) -> None:
    """A durable that shared before keeps its place when it keeps order from now on, and the other way round."""
    broker = await connect(nats_server)
    before = await open_consumer(broker, topic, is_shared=not is_shared)
    await broker.publish(counted(topic, range(10)))
    await take(before, 5)
    await before.stop()

    consumer = await open_consumer(await connect(nats_server), topic, is_shared=is_shared)

    assert numbers(await take(consumer, 5)) == list(range(5, 10))
    config = (await ask(nats_server, f"CONSUMER.INFO.{topic.replace('.', '_')}.group"))["config"]
    assert config.get("priority_policy", "none") == ("none" if is_shared else "pinned_client")


async def test_a_consumer_whose_durable_became_shared_says_so(
    nats_server: EmbeddedNats, connect: Connect, topic: str
) -> None:
    """While one process keeps a group's order, another declares the group as shared: the first refuses to go on."""
    broker = await connect(nats_server)
    consumer = await open_consumer(broker, topic)
    other = await connect(nats_server)
    await other.declare([topic], [Subscription(topic, "group", is_shared=True)])
    await other.publish(counted(topic, range(5)))

    with pytest.raises(BrokerUnavailable, match="declared it as shared"):
        async with asyncio.timeout(DEADLINE):
            await consumer.fetch(5)


@contextlib.asynccontextmanager
async def old_server() -> AsyncIterator[str]:
    """What speaks like a server of 2.12, as far as its JetStream is asked about itself."""
    info = b'INFO {"server_id":"OLD","version":"2.12.1","proto":1,"headers":true,"max_payload":1048576}\r\n'

    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        writer.write(info)
        inboxes: dict[str, str] = {}
        while line := (await reader.readline()).split():
            if line[0] == b"PING":
                writer.write(b"PONG\r\n")
            elif line[0] == b"SUB":
                inboxes[line[1].decode().partition(".*")[0]] = line[-1].decode()
            elif line[0] == b"PUB":
                assert line[1] == b"$JS.API.INFO"
                await reader.readline()
                reply = line[2].decode()
                answer = '{"api":{"level":2}}'
                sid = next(sid for inbox, sid in inboxes.items() if reply.startswith(inbox))
                writer.write(f"MSG {reply} {sid} {len(answer)}\r\n{answer}\r\n".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        for writer in served:
            writer.close()
            await writer.wait_closed()


async def test_a_server_that_is_too_old_is_told() -> None:
    """A server whose API does not know how to reset a consumer is refused with the version that is needed, before
    anything is made there; shared groups are not concerned."""
    async with old_server() as url:
        broker = JetStreamBroker(JetStreamOptions(servers=url))
        await broker.start()
        with pytest.raises(ConfigurationError, match=r"too old: .* nats-server 2\.14 or newer .* this one has 2"):
            await broker.declare(["t"], [Subscription("t", "group")])
        await broker.stop()
