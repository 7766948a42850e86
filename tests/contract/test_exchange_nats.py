"""NATS's exchange, core subjects and queue groups, keeps the port's contract, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.testing.conformance.exchange import AskingConformance, TellingConformance

if TYPE_CHECKING:
    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.ports.broker import Broker
    from torpor.ports.exchange import Exchange


class NatsExchanges:
    too_large = 1_048_576  # the payload alone is as much as the server takes, headers included

    def __init__(self, url: str) -> None:
        self._url = url

    def exchange(self) -> tuple[Broker, Exchange]:
        broker = JetStreamBroker(JetStreamOptions(servers=self._url, name="conformance"))
        return broker, broker.exchange


@pytest.fixture
def exchanges(nats_server: EmbeddedNats) -> NatsExchanges:
    """Exchanges on one server."""
    return NatsExchanges(nats_server.url)


class TestTelling(TellingConformance): ...


class TestAsking(AskingConformance): ...
