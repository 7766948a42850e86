"""The NATS broker keeps the port's contract, on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.testing.conformance.broker import ConsumingConformance, PublishingConformance, SettlingConformance
from torpor.testing.conformance.broker_groups import SharingConformance, TakeoverConformance
from torpor.testing.conformance.broker_progress import ProgressConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.ports.broker import Broker


class Way:
    """A way to the server that can be blocked: neither side then hears of the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)  # noqa: FBT003  # its only argument
        self.url = f"nats://127.0.0.1:{self._socket.getsockname()[1]}"
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._tasks = {asyncio.create_task(self._accept())}

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            coming, _ = await loop.sock_accept(self._socket)
            here = await asyncio.open_connection(sock=coming)
            there = await asyncio.open_connection("127.0.0.1", self._port)
            for source, target in ((here[0], there[1]), (there[0], here[1])):
                self._tasks.add(asyncio.create_task(self._pump(source, target)))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self.is_open.wait()
                target.write(data)
                await target.drain()
        except OSError:
            return
        finally:
            target.transport.abort()


class NatsBackend:
    too_large: int | None = 1_048_576  # the payload alone is as much as the server takes, headers included

    def __init__(self, url: str) -> None:
        self._url = url
        self._ways: dict[str, Way] = {}

    def broker(self, *, can_fall_silent: bool = False) -> JetStreamBroker:
        url = self._url
        if can_fall_silent:
            way = Way(int(url.rpartition(":")[2]))
            self._ways[url := way.url] = way
        return JetStreamBroker(JetStreamOptions(servers=url, name="conformance", ack_wait=2.0, pin_timeout=1.0))

    @contextlib.asynccontextmanager
    async def silenced(self, broker: Broker) -> AsyncIterator[None]:
        assert isinstance(broker, JetStreamBroker)
        way = self._ways[broker.options.servers]
        way.is_open.clear()
        yield
        way.is_open.set()

    async def close(self) -> None:
        """Ends the ways to the server."""
        for way in self._ways.values():
            await way.close()

    async def send_raw(self, topic: str, headers: Mapping[str, str], data: bytes) -> None:
        import nats

        client = await nats.connect(self._url)
        await client.jetstream().publish(topic, data, headers=dict(headers) or None)
        await client.close()


@pytest.fixture
async def backend(nats_server: EmbeddedNats) -> AsyncIterator[NatsBackend]:
    """Brokers on one server."""
    backend = NatsBackend(nats_server.url)
    yield backend
    await backend.close()


class TestPublishing(PublishingConformance): ...


class TestConsuming(ConsumingConformance): ...


class TestSettling(SettlingConformance): ...


class TestTakeover(TakeoverConformance): ...


class TestProgress(ProgressConformance): ...


class TestSharing(SharingConformance): ...
