"""The Kafka broker keeps the port's contract, on a real Apache Kafka."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.integration.kafka_proxy import KafkaProxy
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions
from torpor.kernel.errors import ConfigurationError
from torpor.testing.conformance.broker import (
    ConsumingConformance,
    PublishingConformance,
    SettlingConformance,
    counted,
    numbers,
    open_consumer,
    take_until_sentinel,
)
from torpor.testing.conformance.broker_groups import SharingConformance, TakeoverConformance
from torpor.testing.conformance.broker_progress import ProgressConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from tests.integration.kafka_server import KafkaServer
    from torpor.ports.broker import Broker


class KafkaBackend:
    too_large: int | None = 1_048_588  # what a topic takes at once, so with its headers it is too much

    def __init__(self, server: KafkaServer, proxy: KafkaProxy) -> None:
        self._server = server
        self._proxy = proxy
        self._numbers = itertools.count()

    def broker(self, *, can_fall_silent: bool = False) -> KafkaBroker:
        return KafkaBroker(
            KafkaOptions(
                servers=(f"127.0.0.1:{self._server.front}" if can_fall_silent else self._server.address,),
                name=f"conformance-{next(self._numbers)}",
                partitions=1,
                handover=0.5,
                session_timeout=2.0,
            )
        )

    async def send_raw(self, topic: str, headers: Mapping[str, str], data: bytes) -> None:
        from aiokafka import AIOKafkaProducer

        named = [(name.replace("ce-", "ce_"), value.encode()) for name, value in headers.items()]
        producer = AIOKafkaProducer(bootstrap_servers=self._server.address)
        await producer.start()
        await producer.send_and_wait(topic, data, headers=named)
        await producer.stop()

    def silenced(self, broker: Broker) -> AbstractAsyncContextManager[None]:
        assert isinstance(broker, KafkaBroker)
        return self._proxy.silenced(broker.options.name)


@pytest.fixture
async def backend(kafka_server: KafkaServer) -> AsyncIterator[KafkaBackend]:
    """Brokers on one server."""
    async with KafkaProxy(port=kafka_server.front, target=kafka_server.behind) as proxy:
        yield KafkaBackend(kafka_server, proxy)


class TestPublishing(PublishingConformance): ...


class TestConsuming(ConsumingConformance):
    async def test_topics_are_apart(self, broker: Broker, topic: str) -> None:
        """Topics whose names differ in case, or in '-', are different topics. Of two that differ only in '.' and '_'
        Kafka refuses the second, and so do we, with its reason."""
        names = [f"{topic}.a-b", f"{topic}.A-b", f"{topic}.a.b"]
        consumers = [await open_consumer(broker, name) for name in names]
        for number, name in enumerate(names):
            await broker.publish(counted(name, [number]))
        for number, (name, consumer) in enumerate(zip(names, consumers, strict=True)):
            assert numbers(await take_until_sentinel(broker, consumer, name)) == [number]

        with pytest.raises(ConfigurationError, match="collides with existing topic"):
            await broker.declare([f"{topic}.a_b"], [])


class TestSettling(SettlingConformance): ...


class TestTakeover(TakeoverConformance): ...


class TestProgress(ProgressConformance): ...


class TestSharing(SharingConformance): ...
