"""The real servers of the conformance suites: one of each for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.kafka_server import Absent, KafkaServer
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """A NATS server."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    try:
        server.start()
    except ConfigurationError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """An Apache Kafka."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    from tests.integration.postgres_server import started  # late: it wants asyncpg, which most tests here do not

    server = started()
    yield server
    server.remove()
