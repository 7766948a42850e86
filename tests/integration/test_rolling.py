"""A rolling restart on Kafka or NATS, and PostgreSQL: replicas stop and start one after the other, under load."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.integration.kafka_server import Absent, KafkaServer
from tests.integration.postgres_server import PostgresServer, administer, started
from torpor import Event, Service, Tx, new_id
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import KafkaOptions
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.assembly import Deployment, assemble
from torpor.contract.codec import encode
from torpor.ports.consumer import Subscription
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.ports.broker import Broker

REPLICAS = 3
KEYS = 50
PARTITIONS = 6


class Counted(Event, topic="rolling.counted", key="key"):
    """What is consumed."""

    key: str
    number: int


def counter() -> Service:
    """A service that notes each event, and doubles none that is handled once."""
    service = Service("counter")

    async def note(event: Counted, tx: Tx) -> None:
        await tx.execute("INSERT INTO noted (key, number) VALUES ($1, $2)", event.key, event.number)

    service.on(Counted)(note)
    return service


def duplicates(deployment: Deployment) -> float:
    """How many deliveries the inbox knew."""
    return sum(
        value
        for host in deployment.hosts
        for family in host.metrics.families()
        for labels, value in family.samples
        if labels.get("outcome") == "duplicate" and isinstance(value, int | float)
    )


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = started()
    yield server
    server.remove()


@pytest.fixture
def on_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Broker]]:
    """The URL of an Apache Kafka, and a broker to publish by."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    options = KafkaOptions(servers=(server.address,), partitions=PARTITIONS)
    yield f"{server.url}?partitions={PARTITIONS}", KafkaBroker(options)
    server.stop()


@pytest.fixture
def on_nats(nats_server: EmbeddedNats) -> tuple[str, Broker]:
    """The URL of a NATS server, and a broker to publish by."""
    return nats_server.url, JetStreamBroker(JetStreamOptions(servers=nats_server.url))


@pytest.mark.parametrize("place", ["on_kafka", "on_nats"])
async def test_a_rolling_restart_loses_and_doubles_nothing(
    place: str, database: PostgresServer, request: pytest.FixtureRequest
) -> None:
    """Three replicas are replaced one by one while events come: each has one effect, in the order of its key, and
    no clean stop has anything delivered twice."""
    url, producer = request.getfixturevalue(place)
    settings = Settings.read({"TORPOR_BROKER_URL": url, "TORPOR_DATABASE_URL": database.url()})

    async def replica() -> Deployment:
        deployment = assemble([counter()], settings)
        await deployment.migrate()
        await deployment.start()
        while not all(host.is_ready for host in deployment.hosts):  # noqa: ASYNC110  # a host tells no event
            await asyncio.sleep(0.01)
        return deployment

    statement = "CREATE TABLE noted (place BIGSERIAL PRIMARY KEY, key TEXT NOT NULL, number INT NOT NULL)"
    await administer(database.url(), statement)
    await producer.start()
    await producer.declare([Counted.__torpor_topic__ or ""], [Subscription("rolling.counted", "counter")])
    stopping = asyncio.Event()
    sent, twice = 0, 0.0

    async def produce() -> None:
        nonlocal sent
        while not stopping.is_set():
            events = [Counted(key=str(number % KEYS), number=number) for number in range(sent, sent + 20)]
            messages = [encode(event, id=new_id(), key=None, attributes={"source": "/t"}) for event in events]
            assert await producer.publish(messages) == {}
            sent += len(events)
            await asyncio.sleep(0.02)

    connection = await asyncpg.connect(database.url())
    async with asyncio.timeout(100):
        replicas = [await replica() for _ in range(REPLICAS)]
        producing = asyncio.create_task(produce())
        for _ in range(REPLICAS):
            seen = sent
            while sent < seen + 400:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            former = replicas.pop(0)
            await former.stop()
            twice += duplicates(former)
            replicas.append(await replica())
        stopping.set()
        await producing
        while await connection.fetchval("SELECT count(*) FROM noted") < sent:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for deployment in replicas:
            await deployment.stop()
            twice += duplicates(deployment)
    rows = await connection.fetch("SELECT key, number FROM noted ORDER BY place")
    await connection.close()
    await producer.stop()

    assert sorted(row["number"] for row in rows) == list(range(sent))
    assert twice == 0
    for key in range(KEYS):
        of_key = [row["number"] for row in rows if row["key"] == str(key)]
        assert of_key == sorted(of_key)
