"""What `torpor topics` finds and does on Kafka, and how far its groups are: permissions, partitions, transactions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from torpor.adapters.kafka.administration import KafkaTopicAdmin
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions, options_of
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.topic import Topic
from torpor.ports.consumer import Subscription
from torpor.runtime.provision import Need, compare, provide
from torpor.testing.conformance.broker import DEADLINE, counted, numbers, open_consumer, take
from torpor.testing.conformance.broker_progress import progress_when

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.kafka_secured import SecuredKafka

CLERK = "clerk"  # may do what a test grants
_DAY = 86_400


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"administered.{uuid4().hex}"


@pytest.fixture
async def owner(secured_kafka: SecuredKafka) -> AsyncIterator[KafkaTopicAdmin]:
    """One that may do everything."""
    admin = KafkaTopicAdmin(KafkaOptions(servers=(secured_kafka.address,)))
    await admin.start()
    yield admin
    await admin.stop()


@pytest.fixture
async def clerk(secured_kafka: SecuredKafka) -> AsyncIterator[KafkaTopicAdmin]:
    """One that may do what is granted."""
    admin = KafkaTopicAdmin(options_of(secured_kafka.url_of("sasl", CLERK, sasl="SCRAM-SHA-512"), name="clerk"))
    await admin.start()
    yield admin
    await admin.stop()


@pytest.fixture
async def broker(secured_kafka: SecuredKafka) -> AsyncIterator[KafkaBroker]:
    """A started broker that may do everything."""
    broker = KafkaBroker(KafkaOptions(servers=(secured_kafka.address,), partitions=3))
    await broker.start()
    yield broker
    await broker.stop()


async def test_what_we_may_not_do_is_told_with_who_we_are(
    secured_kafka: SecuredKafka, owner: KafkaTopicAdmin, clerk: KafkaTopicAdmin, topic: str
) -> None:
    """Making, changing and beginning are mistakes to fix, one after the other as more is granted; none breaks off the
    others."""
    there, missing = f"{topic}.there", f"{topic}.missing"
    await owner.make(Topic(there, partitions=1, retention=_DAY))
    await secured_kafka.grant(CLERK, "topic", there, "describe", "describe_configs")
    need = Need([Topic(missing), Topic(there, partitions=2, retention=2 * _DAY)], [])
    assert [step.kind for step in await compare(clerk, need)] == ["make", "change", "change"]
    with pytest.raises(ConfigurationError) as caught:
        await provide(clerk, need)
    assert len(caught.value.problems) == 2
    for problem, name in zip(caught.value.problems, (missing, there), strict=True):
        assert f"User:{CLERK}" in problem
        assert repr(name) in problem

    await secured_kafka.grant(CLERK, "topic", there, "all")
    need = Need([Topic(there, partitions=2, retention=2 * _DAY)], [])
    await provide(clerk, need)
    found = (await owner.find([there]))[there].topic
    assert (found.partitions, found.retention) == (2, 2 * _DAY)

    need = Need(need.topics, [Subscription(there, "group")])
    with pytest.raises(ConfigurationError, match=f"User:{CLERK} has no permission for group 'group:{there}'"):
        await compare(clerk, need)
    await secured_kafka.grant(CLERK, "group", f"group:{there}", "read")
    done, impossible = await provide(clerk, need)
    assert ([step.kind for step in done], impossible) == (["begin"], [])


async def test_settings_of_others_stay(owner: KafkaTopicAdmin, topic: str) -> None:
    """Kafka takes a topic's settings all at once; those that an operator made are sent along."""
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    await owner.make(Topic(topic, retention=_DAY))
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": "2000000"})
    await owner._connection.admin.alter_configs([resource])
    async with asyncio.timeout(DEADLINE):
        while (await owner._settings([topic]))[topic]["max.message.bytes"][0] != "2000000":  # noqa: ASYNC110  # Kafka tells no event
            await asyncio.sleep(0.05)
    await owner.change(Topic(topic, max_bytes=10**9))
    settings = (await owner._settings([topic]))[topic]
    assert settings["max.message.bytes"][0] == "2000000"
    assert settings["retention.bytes"][0] == str(10**9)


async def test_a_compacted_topic_may_have_a_retention_too(owner: KafkaTopicAdmin, topic: str) -> None:
    """It then keeps the last of each key, for so long; without one it keeps it for ever."""
    for wish, policy in (
        (Topic(topic, compacted=True), "compact"),
        (Topic(topic, compacted=True, retention=_DAY), "compact,delete"),
        (Topic(topic, compacted=False, retention=_DAY), "delete"),
        (Topic(topic, compacted=True, retention=2 * _DAY), "compact,delete"),
    ):
        await provide(owner, Need([wish], []))
        assert await compare(owner, Need([wish], [])) == []
        assert (await owner._settings([topic]))[topic]["cleanup.policy"][0] == policy


async def test_fewer_partitions_cannot_be_and_change_nothing(owner: KafkaTopicAdmin, topic: str) -> None:
    """The rest of what is wished is done."""
    await owner.make(Topic(topic, partitions=3, retention=_DAY))
    done, impossible = await provide(owner, Need([Topic(topic, partitions=2, retention=2 * _DAY)], []))
    assert ([step.setting for step in done], [step.setting for step in impossible]) == (["retention"], ["partitions"])
    found = (await owner.find([topic]))[topic].topic
    assert (found.partitions, found.retention) == (3, 2 * _DAY)


async def test_a_partition_that_was_added_is_part_of_the_group(
    owner: KafkaTopicAdmin, secured_kafka: SecuredKafka, topic: str
) -> None:
    """What is published to a new partition before the group has seen it counts, and is handled."""
    options = KafkaOptions(servers=(secured_kafka.address,), partitions=1, metadata_age=0.5)
    broker = KafkaBroker(options)
    await broker.start()
    consumer = await open_consumer(broker, topic)
    await broker.publish(counted(topic, range(5)))
    await take(consumer, 5)
    await provide(owner, Need([Topic(topic, partitions=4)], [Subscription(topic, "group")]))
    other = KafkaBroker(options)
    await other.start()
    await other.publish(counted(topic, range(5, 45)))
    await progress_when(consumer, lambda progress: progress.lag == 40)
    assert sorted(numbers(await take(consumer, 40))) == list(range(5, 45))
    await progress_when(consumer, lambda progress: progress.lag == 0)
    await other.stop()
    await broker.stop()


async def test_one_partition_that_stands_still_is_seen(broker: KafkaBroker, topic: str) -> None:
    """Its place stays, whatever is settled of the others."""
    consumer = await open_consumer(broker, topic)
    await broker.publish(counted(topic, range(60)))
    held = await take(consumer, 60, acknowledge=False)
    first = held[0]
    standing = {delivery.token[0]: None for delivery in held}
    assert len(standing) == 3
    before = (await progress_when(consumer, lambda progress: len(progress.shares) == 3)).shares
    await consumer.acknowledge([delivery for delivery in held if delivery is not first])
    after = (await progress_when(consumer, lambda progress: len(progress.shares) == 1)).shares
    assert set(after.items()) <= set(before.items())
    await consumer.acknowledge([first])
    await progress_when(consumer, lambda progress: progress.lag == 0)


async def test_the_mark_of_a_transaction_is_no_message(
    broker: KafkaBroker, secured_kafka: SecuredKafka, topic: str
) -> None:
    """Kafka keeps where a foreign producer's transaction ended, behind the last message: nothing waits there."""
    from aiokafka import AIOKafkaProducer

    consumer = await open_consumer(broker, topic)
    producer = AIOKafkaProducer(bootstrap_servers=secured_kafka.address, transactional_id=topic)
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topic, b"1", key=b"a")
    await producer.stop()
    (held,) = await take(consumer, 1, acknowledge=False)
    assert (await progress_when(consumer, lambda progress: bool(progress.shares))).lag >= 1
    await consumer.acknowledge([held])
    fetching = asyncio.create_task(consumer.fetch(1))
    done = await progress_when(consumer, lambda progress: progress.lag == 0)
    assert (done.oldest_at, dict(done.shares)) == (None, {})
    fetching.cancel()
    await asyncio.wait({fetching})
