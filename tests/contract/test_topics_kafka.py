"""Kafka's topics and groups are administered as the port says, on a real Apache Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.kafka.administration import KafkaTopicAdmin
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions
from torpor.testing.conformance.topics import ProvisionConformance, TopicsConformance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.kafka_server import KafkaServer
    from torpor.kernel.topic import Topic


class KafkaTopicsBackend:
    def __init__(self, server: KafkaServer) -> None:
        self._server = server

    def admin(self, *, is_reachable: bool = True) -> KafkaTopicAdmin:
        server = self._server.address if is_reachable else "127.0.0.1:1"
        return KafkaTopicAdmin(KafkaOptions(servers=(server,)))

    def broker(self, wishes: Sequence[Topic] = ()) -> KafkaBroker:
        return KafkaBroker(KafkaOptions(servers=(self._server.address,), topics={wish.name: wish for wish in wishes}))


@pytest.fixture
def topics_backend(kafka_server: KafkaServer) -> KafkaTopicsBackend:
    """One server."""
    return KafkaTopicsBackend(kafka_server)


class TestTopics(TopicsConformance): ...


class TestProvision(ProvisionConformance): ...
