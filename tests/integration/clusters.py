"""Clusters of three servers, of which one may be lost: JetStream's and Kafka's."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.kafka_server import Absent, KafkaServer
from tests.integration.ports import free_port
from torpor.adapters.nats.embedded import EmbeddedNats

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 3
_KAFKA = """node.id={number}
controller.quorum.voters={voters}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class NatsCluster:
    """Three servers of NATS, each stream on all of them."""

    query = f"replicas={SIZE}"

    def __init__(self, directory: Path) -> None:
        routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(SIZE)]
        self.nodes = [
            EmbeddedNats(
                directory / str(number),
                free_port(),
                arguments=(
                    *("--server_name", f"n{number}", "--cluster_name", "test"),
                    *("--cluster", route, "--routes", ",".join(routes)),
                ),
            )
            for number, route in enumerate(routes)
        ]

    @property
    def url(self) -> str:
        return f"{','.join(node.url for node in self.nodes)}?{self.query}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def kill(self, number: int) -> None:
        """Ends a node at once."""
        node = self.nodes[number]
        os.kill(node.pid or 0, signal.SIGKILL)
        node.stop()

    def revive(self, number: int) -> None:
        """Starts it again, on its data."""
        self.nodes[number].start()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class KafkaCluster:
    """Three nodes of Kafka, each partition on all of them, and nothing confirmed that is not on two."""

    query = f"partitions=4&replication={SIZE}"

    def __init__(self, directory: Path) -> None:
        self.nodes = [KafkaServer(directory / str(number)) for number in range(SIZE)]
        voters = ",".join(f"{number}@127.0.0.1:{node.controller}" for number, node in enumerate(self.nodes, 1))
        for number, node in enumerate(self.nodes, 1):
            node.cluster = self.nodes[0].cluster
            node.more = _KAFKA.format(number=number, voters=voters)

    @property
    def url(self) -> str:
        return f"kafka://{','.join(node.address for node in self.nodes)}?{self.query}"

    def start(self) -> None:
        try:
            for node in self.nodes:
                node.launch()
        except Absent as error:
            pytest.skip(str(error))
        for node in self.nodes:
            node.wait()

    def kill(self, number: int) -> None:
        """Ends a node at once."""
        self.nodes[number].kill()

    def revive(self, number: int) -> None:
        """Starts it again, on its data."""
        self.nodes[number].start()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


Cluster = NatsCluster | KafkaCluster
