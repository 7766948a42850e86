"""JetStream's streams and durables are administered as the port says, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.nats.administration import JetStreamTopicAdmin
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.testing.conformance.topics import ProvisionConformance, TopicsConformance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.kernel.topic import Topic


class NatsTopicsBackend:
    def __init__(self, server: EmbeddedNats) -> None:
        self._url = server.url

    def admin(self, *, is_reachable: bool = True) -> JetStreamTopicAdmin:
        return JetStreamTopicAdmin(JetStreamOptions(servers=self._url if is_reachable else "nats://127.0.0.1:1"))

    def broker(self, wishes: Sequence[Topic] = ()) -> JetStreamBroker:
        return JetStreamBroker(JetStreamOptions(servers=self._url, topics={wish.name: wish for wish in wishes}))


@pytest.fixture
def topics_backend(nats_server: EmbeddedNats) -> NatsTopicsBackend:
    """One server."""
    return NatsTopicsBackend(nats_server)


class TestTopics(TopicsConformance): ...


class TestProvision(ProvisionConformance): ...
