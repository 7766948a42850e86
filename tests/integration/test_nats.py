"""NATS when things go wrong: outages, cut and frozen connections, killed servers and consumers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, Self

import pytest

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.adapters.nats.options import JetStreamOptions
from torpor.kernel.errors import BrokerUnavailable, NotRunning
from torpor.ports.consumer import Subscription
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take, take_until_sentinel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torpor.kernel.message import Message
    from torpor.ports.consumer import Consumer

    Serve = Callable[..., EmbeddedNats]
    Connect = Callable[..., Awaitable[JetStreamBroker]]
    Ask = Callable[..., Awaitable[dict[str, Any]]]

DEADLINE = 30


class Proxy:
    """A TCP proxy that can cut its connections, or freeze them as a broken network does."""

    def __init__(self, server: EmbeddedNats) -> None:
        self._target = server.port
        self._moving = asyncio.Event()
        self._moving.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        self._moving.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Lets nothing through."""
        self._moving.clear()

    def thaw(self) -> None:
        """Lets through what was held."""
        self._moving.set()

    def cut(self) -> None:
        """Ends all connections at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._pump(source, target)))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4096):
                await self._moving.wait()
                target.write(data)
                await target.drain()
        target.transport.abort()


async def publish_all(broker: JetStreamBroker, messages: list[Message], size: int = 20) -> int:
    """Publishes in batches, each repeated until it is confirmed, as the relay does. Returns the repetitions."""
    repetitions = 0
    for start in range(0, len(messages), size):
        while True:
            try:
                assert await broker.publish(messages[start : start + size]) == {}
                break
            except BrokerUnavailable:
                repetitions += 1
    return repetitions


async def consume_until(consumer: Consumer, last: int) -> list[int]:
    """Fetches and acknowledges through every outage, until the last number has come."""
    seen: list[int] = []
    while last not in seen:
        with contextlib.suppress(BrokerUnavailable):
            deliveries = await consumer.fetch(10)
            seen += numbers(deliveries)
            await consumer.acknowledge(deliveries)
    return seen


async def outage(broker: JetStreamBroker) -> str:
    """What the broker tells, once it has noticed an outage."""
    while True:
        try:
            await broker.ping()
        except BrokerUnavailable as error:
            await asyncio.sleep(0)
            return str(error)


def kill(server: EmbeddedNats) -> None:
    """Kills a server, and forgets it."""
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    server.stop()


@pytest.mark.parametrize("end", [EmbeddedNats.stop, kill])
async def test_a_restart_of_the_server_is_survived(
    serve_nats: Serve, connect: Connect, ask: Ask, end: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The server ends (in order, or killed) and comes back: the same broker and consumer go on, nothing is lost,
    doubled in the stream or put out of order, and the log has a line for each outage and no stack."""
    server = serve_nats()
    broker = await connect(server, ack_wait=1.0, connect_timeout=0.5)
    consumer = await open_consumer(broker, "restarts")
    messages = counted("restarts", range(1500))
    async with asyncio.timeout(DEADLINE):
        consuming = asyncio.create_task(consume_until(consumer, 1499))
        for third in range(0, 1500, 500):
            publishing = asyncio.create_task(publish_all(broker, messages[third : third + 500]))
            for _ in range(20):
                await asyncio.sleep(0)
            end(server)
            await outage(broker)
            server.start()
            await publishing
        seen = await consuming

    assert sorted(set(seen)) == list(range(1500))
    assert list(dict.fromkeys(seen)) == list(range(1500))
    assert (await ask(server, "STREAM.INFO.restarts"))["state"]["messages"] == 1500
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage().partition(" ")[0] for record in told] == ["Lost", "Connected"] * 3
    assert not any(record.exc_info for record in told)


async def test_a_killed_server_keeps_what_it_confirmed(serve_nats: Serve, connect: Connect) -> None:
    """`kill -9` of the server loses no confirmed message. What it had not yet written down of acknowledgements and
    releases is lost: it comes again, after the ack wait."""
    server = serve_nats()
    broker = await connect(server, ack_wait=1.0)
    await broker.publish([])
    consumer = await open_consumer(broker, "kept")
    await broker.publish(counted("kept", range(100)))
    first = numbers(await take(consumer, 40))
    await broker.stop()

    kill(server)
    server.start()
    await broker.start()

    consumer = await open_consumer(broker, "kept")
    rest: set[int] = set()
    async with asyncio.timeout(DEADLINE):
        while not rest >= set(range(40, 100)):
            rest |= set(numbers(await take(consumer, 1)))
    assert first == list(range(40))


async def test_cut_connections_keep_the_order_of_publishing(
    nats_server: EmbeddedNats, connect: Connect, ask: Ask, topic: str
) -> None:
    """A connection that is cut again and again, at any point of a batch, neither loses, doubles nor reorders."""
    async with asyncio.timeout(DEADLINE), Proxy(nats_server) as proxy:
        broker = await connect(proxy, ack_wait=1.0)
        consumer = await open_consumer(broker, topic)
        consuming = asyncio.create_task(consume_until(consumer, 3999))
        publishing = asyncio.create_task(publish_all(broker, counted(topic, range(4000)), size=400))
        turns = 0
        while not publishing.done():
            turns += 1
            for _ in range(turns * 7 % 50):
                await asyncio.sleep(0)
            proxy.cut()
            await asyncio.wait({publishing}, timeout=0.2)
        repetitions = await publishing
        seen = await consuming

    assert repetitions > 0
    assert list(dict.fromkeys(seen)) == list(range(4000))
    stream = await ask(nats_server, f"STREAM.INFO.{topic.replace('.', '_')}")
    assert stream["state"]["messages"] == 4000


async def test_a_frozen_network_is_unavailable_within_bounds_and_recovers(
    nats_server: EmbeddedNats, connect: Connect, topic: str
) -> None:
    """When nothing gets through, publishing and pinging raise after their timeouts; then everything goes on."""
    async with asyncio.timeout(DEADLINE), Proxy(nats_server) as proxy:
        broker = await connect(proxy, publish_timeout=0.2, request_timeout=0.2)
        consumer = await open_consumer(broker, topic)

        proxy.freeze()
        with pytest.raises(BrokerUnavailable, match=r"Of 3 messages 3 are not confirmed: no confirmation for 0\.2 s"):
            await broker.publish(counted(topic, range(3)))
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            await broker.ping()
        proxy.thaw()

        await publish_all(broker, counted(topic, range(3, 6)))
        assert numbers(await take(consumer, 6)) == list(range(6))


async def test_an_outage_raises_within_the_connect_timeout(serve_nats: Serve, connect: Connect, topic: str) -> None:
    """While the server is away, every call waits no longer than it would for a connection, and names the server."""
    server = serve_nats()
    broker = await connect(server, connect_timeout=0.2)
    consumer = await open_consumer(broker, topic)
    await broker.publish(counted(topic, [0]))
    held = await take(consumer, 1, acknowledge=False)
    server.stop()

    async with asyncio.timeout(DEADLINE):
        await outage(broker)
        for call in (
            broker.publish(counted(topic, [1])),
            broker.ping(),
            broker.declare([topic], []),
            broker.consume(Subscription(topic, "group")),
            consumer.acknowledge(held),
            consumer.fetch(1),
        ):
            with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{server.port}"):
                await call
        await consumer.stop()
        await broker.stop()


async def test_a_broker_can_be_stopped_at_any_moment_of_an_outage(
    nats_server: EmbeddedNats, connect: Connect, topic: str
) -> None:
    """Whatever the connection is busy with, stopping ends it, and what was held comes to the next consumer."""
    async with asyncio.timeout(DEADLINE), Proxy(nats_server) as proxy:
        for moment in range(0, 40, 2):
            broker = await connect(proxy, ack_wait=60.0)
            consumer = await open_consumer(broker, topic)
            await publish_all(broker, counted(topic, [moment]))
            fetching = asyncio.create_task(consumer.fetch(1))
            proxy.cut()
            for _ in range(moment):
                await asyncio.sleep(0)
            fetching.cancel()
            await broker.stop()
        consumer = await open_consumer(await connect(proxy), topic)
        assert numbers(await take(consumer, 20)) == list(range(0, 40, 2))


async def test_starting_without_a_server_names_it_without_secrets() -> None:
    """Nobody listens: start fails with the address and the reason, and no credentials; it may be called again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        broker = JetStreamBroker(JetStreamOptions(servers=f"nats://me:s3cret@127.0.0.1:{port}", connect_timeout=0.5))
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1:{port} cannot be reached: .*Connect") as caught:
                await broker.start()
            assert "s3cret" not in str(caught.value) + repr(broker) + repr(broker.options)
    with pytest.raises(NotRunning):
        await broker.publish([])
    await broker.stop()


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "http"])
async def test_what_is_no_nats_server_is_unavailable(greeting: bytes) -> None:
    """A port that is silent, or speaks something else, ends the start within its timeout."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with asyncio.timeout(DEADLINE), await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        broker = JetStreamBroker(JetStreamOptions(servers=f"nats://127.0.0.1:{port}", connect_timeout=0.3))
        with pytest.raises(BrokerUnavailable, match=f":{port} cannot be reached"):
            await broker.start()


@pytest.mark.parametrize(
    "wrong",
    [{}, {"user": "shop", "password": "wrong-s3cret"}, {"token": "wrong-s3cret"}],
    ids=["none", "password", "token"],
)
async def test_wrong_credentials_are_told_without_them(
    serve_nats: Serve, connect: Connect, wrong: dict[str, str]
) -> None:
    """A server that refuses us is unavailable: the address and the reason are told, and no secret."""
    server = serve_nats(arguments=("--user", "shop", "--pass", "right-s3cret"))

    with pytest.raises(BrokerUnavailable, match=r"Authorization Violation|reset by peer") as caught:
        await connect(server, **wrong)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert "s3cret" not in str(caught.value)

    await (await connect(server, user="shop", password="right-s3cret")).ping()
    in_url = JetStreamOptions(servers=server.url.replace("//", "//shop:right%2Ds3cret@"))
    broker = JetStreamBroker(in_url)
    await broker.start()
    await broker.ping()
    await broker.stop()


async def test_a_server_that_refuses_us_for_a_while_is_tried_for_ever(serve_nats: Serve, connect: Connect) -> None:
    """A server that does not know us after a restart, and takes us later, is taken up again."""
    server = serve_nats()
    broker = await connect(server, connect_timeout=0.5)
    server.stop()

    strict = serve_nats(port=server.port, arguments=("--user", "shop", "--pass", "x"))
    async with asyncio.timeout(DEADLINE):
        while "Authorization Violation" not in await outage(broker):
            pass
        strict.stop()
        server.start()
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await broker.declare(["again"], [])
                break
        await publish_all(broker, counted("again", [1]))


async def test_a_slow_handler_is_not_redelivered(nats_server: EmbeddedNats, connect: Connect, topic: str) -> None:
    """What is held for longer than the ack wait stays with its holder; nearby, a silent program's message comes again
    and again, which shows that the time has passed."""
    import nats

    broker = await connect(nats_server, ack_wait=1.0)
    consumer = await open_consumer(broker, topic, is_shared=True)
    silent = f"{topic}.silent"
    await broker.declare([silent], [Subscription(silent, "group", is_shared=True)])
    await broker.publish([*counted(topic, range(3)), *counted(silent, [9])])
    held = await take(consumer, 2, acknowledge=False)
    await consumer.stop()

    client = await nats.connect(nats_server.url)
    pulling = await client.jetstream().pull_subscribe_bind(durable="group", stream=silent.replace(".", "_"))
    deliveries = 0
    while deliveries < 3:
        (message,) = await pulling.fetch(1, timeout=DEADLINE)
        deliveries = message.metadata.num_delivered
    await client.close()

    other = await open_consumer(broker, topic, is_shared=True)
    assert numbers(await take_until_sentinel(broker, other, topic)) == [2]
    await consumer.acknowledge(held)
    assert await take_until_sentinel(broker, other, topic) == []


@pytest.mark.parametrize("what", ["CONSUMER.DELETE.{}.group", "STREAM.DELETE.{}"])
async def test_what_somebody_deletes_is_made_again(
    nats_server: EmbeddedNats, connect: Connect, ask: Ask, topic: str, what: str
) -> None:
    """A durable or a stream that is deleted under a running service is declared again; the service goes on."""
    broker = await connect(nats_server)
    consumer = await open_consumer(broker, topic)
    await publish_all(broker, counted(topic, [0]))
    assert numbers(await take(consumer, 1)) == [0]

    await ask(nats_server, what.format(topic.replace(".", "_")))

    async with asyncio.timeout(DEADLINE):
        consuming = asyncio.create_task(consume_until(consumer, 1))
        await publish_all(broker, counted(topic, [1]))
        assert set(await consuming) <= {0, 1}
