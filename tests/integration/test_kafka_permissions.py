"""Kafka that permits one thing and denies another: what is closed is told with its name and ours, the rest goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.integration.trouble import until
from torpor import Event, Service, Tx
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import options_of
from torpor.assembly import assemble
from torpor.kernel.errors import BrokerUnavailable, Rejected
from torpor.kernel.message import Message
from torpor.kernel.parked import ParkedQuery
from torpor.ports.consumer import Subscription
from torpor.runtime.settings import Settings
from torpor.testing.conformance.broker import counted, numbers, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.kafka_secured import SecuredKafka

DEADLINE = 60
CLERK = "clerk"  # may do what a test grants
OPEN, CLOSED = (f"permitted.{name}.{uuid4().hex}" for name in ("open", "closed"))


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"permitted.{uuid4().hex}"


@pytest.fixture
async def owner(secured_kafka: SecuredKafka) -> AsyncIterator[KafkaBroker]:
    """A broker that may do everything."""
    broker = KafkaBroker(options_of(secured_kafka.url_of("sasl", "shop"), name="owner"))
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def clerk(secured_kafka: SecuredKafka) -> AsyncIterator[KafkaBroker]:
    """A broker that may do what is granted."""
    broker = KafkaBroker(options_of(secured_kafka.url_of("sasl", CLERK, sasl="SCRAM-SHA-512"), name="clerk"))
    await broker.start()
    yield broker
    await broker.stop()


async def test_a_topic_that_we_may_not_write_is_refused_and_others_go_on(
    secured_kafka: SecuredKafka, owner: KafkaBroker, clerk: KafkaBroker, topic: str
) -> None:
    """Hidden, read-only or closed under us: its messages are refused with its name and ours, those of other topics are
    stored, in this call and in the next ones. What is permitted later is published."""
    hidden, readable = f"{topic}.hidden", f"{topic}.readable"
    await owner.declare([topic, hidden, readable], [Subscription(topic, "owners")])
    await secured_kafka.grant(CLERK, "topic", topic, "write")
    await secured_kafka.grant(CLERK, "topic", readable, "read")
    consumer = await owner.consume(Subscription(topic, "owners"))

    for turn in range(3):
        span = range(turn * 3, turn * 3 + 3)
        messages = [
            *counted(topic, span[:2]),
            *counted(hidden, [100]),
            *counted(readable, [101]),
            *counted(topic, span[2:]),
        ]
        refusals = await clerk.publish(messages)
        assert sorted(refusals) == [2, 3]
        for index, name in ((2, hidden), (3, readable)):
            assert isinstance(refusals[index], Rejected)
            assert f"User:{CLERK} has no permission for topic '{name}'. Allow it" in str(refusals[index])
    assert numbers(await take(consumer, 9)) == list(range(9))

    await secured_kafka.grant(CLERK, "topic", readable, "write")
    assert await clerk.publish(counted(readable, [1])) == {}
    await secured_kafka.revoke(CLERK, "topic", topic)
    assert sorted(await clerk.publish([*counted(topic, [9]), *counted(readable, [2])])) == [0]
    await secured_kafka.grant(CLERK, "topic", topic, "write")
    assert await clerk.publish(counted(topic, [9])) == {}
    assert numbers(await take(consumer, 1)) == [9]


async def test_who_may_write_nothing_at_all_is_told_so(clerk: KafkaBroker, owner: KafkaBroker, topic: str) -> None:
    """Nothing of what was granted to others lets us publish to a topic that we may not even see."""
    await owner.declare([topic], [])

    try:
        refusals = dict(await clerk.publish(counted(topic, [0])))
        told = str(refusals[0])
    except BrokerUnavailable as error:  # Kafka gives no producer to who may write nowhere
        told = str(error)
    assert f"User:{CLERK} has no permission for" in told


async def test_a_topic_that_we_may_not_make_is_told(
    secured_kafka: SecuredKafka, clerk: KafkaBroker, topic: str
) -> None:
    """A missing topic that we may not make is told with its name, and declared once we may, and used."""
    with pytest.raises(BrokerUnavailable, match=f"User:{CLERK} may neither see topic '{topic}' nor make it") as caught:
        await clerk.declare([topic], [])
    assert "or allow Create" in str(caught.value)

    await secured_kafka.grant(CLERK, "topic", topic, "create", "write")
    await clerk.declare([topic], [])
    assert await clerk.publish(counted(topic, [0])) == {}


async def test_a_group_that_we_may_not_join_is_told(
    secured_kafka: SecuredKafka, owner: KafkaBroker, clerk: KafkaBroker, topic: str
) -> None:
    """A group that is closed to us is told with its name, when it is declared; once it is open nothing is missed."""
    subscription = Subscription(topic, "clerks")
    await owner.declare([topic], [subscription])
    await secured_kafka.grant(CLERK, "topic", topic, "read")
    await owner.publish(counted(topic, range(3)))

    with pytest.raises(BrokerUnavailable, match=f"User:{CLERK} has no permission for group 'clerks:{topic}'"):
        await clerk.declare([topic], [subscription])
    consumer = await clerk.consume(subscription)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match=f"no permission for group 'clerks:{topic}'. Allow it Read"):
            await consumer.fetch(1)

    await secured_kafka.grant(CLERK, "group", f"clerks:{topic}", "read")
    await clerk.declare([topic], [subscription])
    assert numbers(await take(consumer, 3)) == [0, 1, 2]


async def test_a_topic_that_we_may_not_read_is_told(
    secured_kafka: SecuredKafka, owner: KafkaBroker, clerk: KafkaBroker, topic: str
) -> None:
    """A topic that is closed to us, from the start or under a running consumer, is told with its name; once it is open
    nothing is missed, and nothing comes twice."""
    subscription = Subscription(topic, "clerks")
    await owner.declare([topic], [subscription])
    await secured_kafka.grant(CLERK, "group", f"clerks:{topic}", "read")
    await secured_kafka.grant(CLERK, "topic", topic, "describe")
    await owner.publish(counted(topic, range(3)))
    consumer = await clerk.consume(subscription)
    refusal = f"User:{CLERK} has no permission for topic '{topic}'. Allow it Describe, and Read"

    with pytest.raises(BrokerUnavailable, match=refusal):
        await consumer.fetch(1)
    await secured_kafka.grant(CLERK, "topic", topic, "read")
    assert numbers(await take(consumer, 3)) == [0, 1, 2]

    await secured_kafka.revoke(CLERK, "topic", topic)
    await owner.publish(counted(topic, range(3, 6)))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(BrokerUnavailable, match=refusal):
            await consumer.fetch(1)
    await secured_kafka.grant(CLERK, "topic", topic, "read")
    assert numbers(await take(consumer, 3)) == [3, 4, 5]


async def test_a_limit_that_we_may_not_ask_for_is_found(
    secured_kafka: SecuredKafka, owner: KafkaBroker, clerk: KafkaBroker, topic: str
) -> None:
    """Without DescribeConfigs the topic's limit is not known: a batch that is too much is divided, a message that is
    too large is refused with what follows on its key, and all others are stored once and in order, in each call."""
    small = KafkaBroker(replace(owner.options, settings={"max.message.bytes": "2000"}))
    await small.start()
    await small.declare([topic], [Subscription(topic, "owners")])
    await small.stop()
    await secured_kafka.grant(CLERK, "topic", topic, "write")
    consumer = await owner.consume(Subscription(topic, "owners"))

    for turn in range(2):
        messages = [
            Message(topic, b"x" * (3000 if n == 7 else 300), id=f"{turn}-{n}", type="t", key=f"k{n % 5}")
            for n in range(20)
        ]
        refusals = await clerk.publish(messages)
        assert sorted(refusals) == [7, 12, 17]
        assert "more than the topic takes" in str(refusals[7])
        assert "max.message.bytes" in str(refusals[7])
        stored = [delivery.message.id for delivery in await take(consumer, 17)]
        assert stored == [f"{turn}-{n}" for n in range(20) if n not in {7, 12, 17}]


class Permitted(Event, topic=OPEN, key="name"):
    name: str


class Forbidden(Event, topic=CLOSED, key="name"):
    name: str


def telling() -> Service:
    """A service that publishes to a topic that it may write, and to one that it may not."""
    service = Service("telling")

    @service.post("/tell")
    async def tell(name: str, tx: Tx) -> None:
        tx.publish(Forbidden(name=name))
        tx.publish(Permitted(name=name))

    return service


async def test_what_a_service_may_not_publish_is_parked_and_loses_nothing(
    secured_kafka: SecuredKafka, owner: KafkaBroker, tmp_path: Path
) -> None:
    """The relay parks what is not permitted with the reason, and publishes the rest. After the permission the parked
    messages are redriven and published."""
    import httpx

    names = [f"n{number}" for number in range(4)]
    await owner.declare([OPEN, CLOSED], [Subscription(OPEN, "seen"), Subscription(CLOSED, "seen")])
    await secured_kafka.grant(CLERK, "topic", OPEN, "write")
    await secured_kafka.grant(CLERK, "topic", CLOSED, "describe")
    settings = {
        "TORPOR_BROKER_URL": secured_kafka.url_of("sasl", CLERK, sasl="SCRAM-SHA-256"),
        "TORPOR_DATABASE_URL": f"sqlite:///{tmp_path}/{{service}}.db",
    }
    deployment = assemble([telling()], Settings.read(settings))
    (host,) = deployment.hosts
    await deployment.migrate()
    await deployment.start()
    try:
        await until(lambda: host.is_ready, host.status)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(deployment.app), base_url="http://telling.test")
        async with client:
            for name in names:
                assert (await client.post(f"/tell?name={name}")).status_code == 200
        seen = await take(await owner.consume(Subscription(OPEN, "seen")), 4)
        assert sorted(delivery.message.key or "" for delivery in seen) == names

        async def count() -> int:
            return len(await host.store.parking.list())

        async def is_parked() -> bool:
            return await count() == len(names)

        await until(is_parked, host.status)
        for row in await host.store.parking.list():
            assert row.binding == "outbox"
            assert f"User:{CLERK} has no permission for topic '{CLOSED}'" in row.reason

        await secured_kafka.grant(CLERK, "topic", CLOSED, "write")
        await host.store.parking.redrive(ParkedQuery(binding="outbox"), 1.0)
        seen = await take(await owner.consume(Subscription(CLOSED, "seen")), 4)
        assert sorted(delivery.message.key or "" for delivery in seen) == names
    finally:
        await deployment.stop()
