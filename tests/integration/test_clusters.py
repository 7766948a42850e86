"""A service over a cluster of three servers, each of which is killed and comes back while events flow."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.clusters import SIZE, Cluster, KafkaCluster, NatsCluster
from torpor import Event, Service, Tx
from torpor.assembly import assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = 20
DEADLINE = 280  # seconds, for what takes thirty on a machine that does nothing else
TABLES = {"0001_noted.sql": "CREATE TABLE noted (place INTEGER PRIMARY KEY, key TEXT NOT NULL, number INT NOT NULL)"}


class Told(Event, topic="cluster.told", key="key"):
    """What flows."""

    key: str
    number: int


def services() -> tuple[Service, Service]:
    """One that tells, twenty at a time, and one that notes."""
    teller, noter = Service("teller", migrations={}), Service("noter", migrations=TABLES)

    async def tell(first: int, tx: Tx) -> None:
        for number in range(first, first + KEYS):
            tx.publish(Told(key=str(number % KEYS), number=number))

    async def note(event: Told, tx: Tx) -> None:
        tx.write("INSERT INTO noted (key, number) VALUES ($1, $2)", event.key, event.number)

    teller.post("/tell", public=True)(tell)
    noter.on(Told)(note)
    return teller, noter


@pytest.fixture(params=[NatsCluster, KafkaCluster], ids=["nats", "kafka"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Three servers."""
    servers: Cluster = request.param(tmp_path / "cluster")
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest.mark.timeout(DEADLINE + 20)
async def test_a_cluster_that_loses_each_server_in_turn_loses_no_event(cluster: Cluster, tmp_path: Path) -> None:
    """Each of three servers is killed once while events are told and noted: every event is noted once, in the order of
    its key."""
    database = f"sqlite:///{tmp_path}/{{service}}.db"
    settings = Settings.read({"TORPOR_BROKER_URL": cluster.url, "TORPOR_DATABASE_URL": database})
    deployment = assemble(services(), settings)
    teller = deployment.hosts[0]
    (route,) = teller.plan.routes
    sent = 0
    stopping = asyncio.Event()

    async def tell() -> None:
        nonlocal sent
        while not stopping.is_set():
            await teller.responder(route.handled).respond({"first": sent})
            sent += KEYS
            await asyncio.sleep(0.1)

    def read(query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(tmp_path / "noter.db")) as connection:
            return connection.execute(query).fetchall()

    async def until_noted(many: int) -> None:
        while read("SELECT count(*) FROM noted")[0][0] < many:  # noqa: ASYNC110  # a table tells no event
            await asyncio.sleep(0.05)

    async with asyncio.timeout(DEADLINE):
        await deployment.migrate()
        await deployment.start()
        telling = asyncio.create_task(tell())
        await until_noted(5 * KEYS)
        for number in range(SIZE):
            await asyncio.to_thread(cluster.kill, number)
            await until_noted(sent + 5 * KEYS)
            await asyncio.to_thread(cluster.revive, number)
            await until_noted(sent + 5 * KEYS)
        stopping.set()
        await telling
        await until_noted(sent)
    await deployment.stop()

    rows = read("SELECT key, number FROM noted ORDER BY place")
    assert sorted(number for _, number in rows) == list(range(sent))
    for key in range(KEYS):
        of_key = [number for name, number in rows if name == str(key)]
        assert of_key == sorted(of_key)
