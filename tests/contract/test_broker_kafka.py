"""The Kafka broker keeps the port's contract, on a real Apache Kafka."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.integration.kafka_proxy import KafkaProxy
from tests.integration.kafka_server import Absent, KafkaServer
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from torpor.ports.broker import Broker

ONE_BY_ONE = "not promised: settling one by one, which a watermark cannot"


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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """An Apache Kafka for all tests here."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
async def backend(server: KafkaServer) -> AsyncIterator[KafkaBackend]:
    """Brokers on one server."""
    async with KafkaProxy(port=server.front, target=server.behind) as proxy:
        yield KafkaBackend(server, proxy)


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


class TestSharing(SharingConformance):
    async def test_acknowledging_out_of_order_settles_exactly_those(self, broker: Broker, topic: str) -> None:
        """What is acknowledged behind something that is not may come again."""
        pytest.skip(ONE_BY_ONE)

    async def test_a_stopped_consumer_gives_back_what_it_had_not_handed_out(self, broker: Broker, topic: str) -> None:
        """What a stopped consumer has in hand may come to the next one."""
        pytest.skip(ONE_BY_ONE)
