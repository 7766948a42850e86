"""The NATS broker keeps the port's contract, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.adapters.nats.options import JetStreamOptions
from torpor.kernel.errors import ConfigurationError
from torpor.testing.conformance.broker import ConsumingConformance, PublishingConformance, SettlingConformance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class NatsBackend:
    too_large: int | None = 1_048_576  # the payload alone is as much as the server takes, headers included

    def __init__(self, url: str) -> None:
        self._url = url

    def broker(self) -> JetStreamBroker:
        return JetStreamBroker(JetStreamOptions(servers=self._url, name="conformance", ack_wait=2.0))

    async def send_raw(self, topic: str, headers: Mapping[str, str], data: bytes) -> None:
        import nats

        client = await nats.connect(self._url)
        await client.jetstream().publish(topic, data, headers=dict(headers) or None)
        await client.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """A NATS server for all tests here."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    try:
        server.start()
    except ConfigurationError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def backend(server: EmbeddedNats) -> NatsBackend:
    """Brokers on one server."""
    return NatsBackend(server.url)


class TestPublishing(PublishingConformance): ...


class TestConsuming(ConsumingConformance): ...


class TestSettling(SettlingConformance): ...
