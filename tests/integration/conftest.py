"""Real servers for the tests of this folder, each started where it is asked for and stopped after."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest

from tests.integration.kafka_secured import SecuredKafka
from tests.integration.kafka_server import Absent
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.adapters.nats.options import JetStreamOptions
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.integration.postgres_server import PostgresServer


class HasUrl(Protocol):
    """A server, or what stands before it."""

    url: str


def _start(directory: Path, **more: Any) -> EmbeddedNats:
    server = EmbeddedNats(directory, **more)
    try:
        server.start()
    except ConfigurationError as error:
        pytest.skip(str(error))
    return server


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """A NATS server that stays up for all tests."""
    server = _start(tmp_path_factory.mktemp("nats"))
    yield server
    server.stop()


@pytest.fixture
def serve_nats(tmp_path: Path) -> Iterator[Callable[..., EmbeddedNats]]:
    """Starts NATS servers of the test's own."""
    servers: list[EmbeddedNats] = []

    def serve(**more: Any) -> EmbeddedNats:
        servers.append(_start(tmp_path / f"nats-{len(servers)}", **more))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[JetStreamBroker]]]:
    """Starts brokers on a NATS server, with options by name."""
    brokers: list[JetStreamBroker] = []

    async def connect(server: HasUrl, **options: Any) -> JetStreamBroker:
        brokers.append(JetStreamBroker(JetStreamOptions(servers=server.url, **options)))
        await brokers[-1].start()
        return brokers[-1]

    yield connect
    for broker in brokers:
        await broker.stop()


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses. Its stream has '_' for '.'."""
    return f"integration.{uuid4().hex}"


@pytest.fixture
def ask() -> Callable[..., Awaitable[dict[str, Any]]]:
    """Asks JetStream's API past the adapter, as an operator does."""

    async def ask(server: HasUrl, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import nats

        client = await nats.connect(server.url)
        answer = await client.request(f"$JS.API.{name}", json.dumps(body or {}).encode(), timeout=5)
        await client.close()
        told: dict[str, Any] = json.loads(answer.data)
        assert "error" not in told, told
        return told

    return ask


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of a module."""
    from tests.integration.postgres_server import started  # late: it wants asyncpg, which most tests here do not

    server = started()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """An Apache Kafka that is closed, for all tests."""
    server = SecuredKafka(tmp_path_factory.mktemp("secured"))
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """All that is logged, with tracebacks."""
    found: list[str] = []
    handler = Kept(found)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
