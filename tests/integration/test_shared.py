"""What replicas share, on real servers: answers that are kept, what is forgotten of them, and limits."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.docs.pages import page_at, rows
from tests.integration.postgres_server import started
from torpor import Cached, ConfigurationError, Limit, Service, Tx
from torpor.assembly import assemble
from torpor.runtime.peer import Knock, Refused
from torpor.runtime.settings import Settings
from torpor.testing.socket import TestSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.integration.postgres_server import PostgresServer
    from torpor.adapters.nats.embedded import EmbeddedNats

    Open = Callable[..., Awaitable[httpx.AsyncClient]]

BURST = 20


class Replica:
    """One replica of a service, and how often its handler ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.service = Service("notes", migrations={"1.sql": "CREATE TABLE note (name TEXT)"})

        @self.service.get("/notes", rules=[Cached(600, tags=["notes"])])
        async def notes(tx: Tx) -> list[str]:
            self.runs += 1
            return [row["name"] for row in await tx.fetch("SELECT name FROM note ORDER BY name")]

        @self.service.post("/notes/{name}")
        async def write(name: str, tx: Tx) -> None:
            await tx.execute("INSERT INTO note VALUES ($1)", name)
            tx.forget("notes")

        limits = [Limit(BURST, per=3600, shared=True, by="everyone")]

        @self.service.get("/limited", rules=limits)
        async def limited() -> None: ...

        strict = [Limit(BURST, per=3600, shared=True, strict=True, by="header:x-tenant")]

        @self.service.get("/strict", rules=strict)
        async def strictly() -> None: ...

        @self.service.socket("/live", rules=[*limits, Limit(1, shared=True, strict=True, per=3600, by="everyone")])
        async def live(message: str) -> None: ...


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Runs replicas, and returns a client of each."""
    async with AsyncExitStack() as stack:

        async def opened(replica: Replica, **environ: str) -> httpx.AsyncClient:
            settings = {f"TORPOR_{name.upper()}": value for name, value in environ.items()}
            deployment = assemble([replica.service], Settings.read(settings))
            await deployment.migrate()
            await deployment.start()
            stack.push_async_callback(deployment.stop, 5)
            async with asyncio.timeout(20):
                await deployment.hosts[0].health.known.wait()
            assert deployment.hosts[0].is_ready, deployment.hosts[0].status()
            transport = httpx.ASGITransport(deployment.app)
            return await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://notes.test"))

        yield opened


@pytest.fixture(params=["broker", "database", "file"])
def environ(
    request: pytest.FixtureRequest, postgres: PostgresServer, nats_server: EmbeddedNats, tmp_path: Path
) -> dict[str, str]:
    """Where replicas share: NATS, PostgreSQL, or a file of SQLite's."""
    schema = f"shared_{request.node.name.partition('[')[0]}_{request.param}"[:60]
    url = f"{postgres.url()}&schema={schema}"
    if request.param == "broker":
        return {"shared": "broker", "database_url": url, "broker_url": nats_server.url}
    return {"shared": "database", "database_url": f"sqlite:///{tmp_path}/notes.db" if request.param == "file" else url}


async def test_what_one_replica_keeps_another_gives(opened: Open, environ: dict[str, str]) -> None:
    """The handler runs once for both, until one of them has it forgotten, and then once more."""
    replicas = Replica(), Replica()
    one, other = [await opened(replica, **environ) for replica in replicas]
    await one.post("/notes/a")
    first = await one.get("/notes")
    assert first.json() == ["a"]
    again = await other.get("/notes", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, "age" in again.headers) == (304, True)
    assert [replica.runs for replica in replicas] == [1, 0]
    await other.post("/notes/b")
    assert [(await client.get("/notes")).json() for client in (one, other, one)] == [["a", "b"]] * 3
    assert sum(replica.runs for replica in replicas) == 2


async def test_replicas_let_in_no_more_than_one_would(opened: Open, environ: dict[str, str]) -> None:
    """However they are asked at once, together they answer a burst, and each tells what is left for both."""
    clients = [await opened(Replica(), **environ) for _ in range(2)]
    answers = await asyncio.gather(*(clients[number % 2].get("/limited") for number in range(3 * BURST)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (BURST, 2 * BURST)
    left = sorted(answer.headers["ratelimit"].partition("r=")[2].partition(";")[0] for answer in answers)
    assert sorted(map(int, left)) == [*[0] * (2 * BURST), *range(BURST)]
    assert [(await client.get("/limited")).headers["retry-after"] for client in clients] == ["180", "180"]
    assert [(await client.get("/strict", headers={"x-tenant": "a"})).status_code for client in clients] == [200, 200]


async def test_sockets_are_counted_with_routes(tmp_path: Path) -> None:
    """Those who connect count in the limits that replicas share, and are refused as those who ask."""
    settings = Settings.read({"TORPOR_SHARED": "database", "TORPOR_DATABASE_URL": f"sqlite:///{tmp_path}/notes.db"})
    deployments = [assemble([Replica().service], settings) for _ in range(2)]
    for deployment in deployments:
        await deployment.migrate()
        await deployment.start()
        await deployment.hosts[0].health.known.wait()
    doors = [deployment.sockets for deployment in deployments]
    assert doors[0] is not None
    assert doors[1] is not None
    async with TestSocket(doors[0].let_in, Knock("/live", "", {"host": "notes.test"}), settled):
        for door in (doors[0], doors[1]):
            with pytest.raises(Refused, match="too often") as refused:
                await door.let_in(
                    Knock("/live", "", {"host": "notes.test"}), TestSocket(door.let_in, Knock("", "", {}), settled)
                )
            assert refused.value.status == 429
    transport = httpx.ASGITransport(deployments[1].app)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as client:
        assert f"r={BURST - 4}" in (await client.get("/limited")).headers["ratelimit"]
    for deployment in deployments:
        await deployment.stop()


async def settled() -> None:
    """Nothing is waited for."""


async def test_an_outage_leaves_each_to_itself(
    opened: Open,
    serve_nats: Callable[..., EmbeddedNats],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without its backend a replica has its handler answer, counts alone, refuses what is strict, tells it once, and
    shares again when it is back."""
    nats = serve_nats()
    replica = Replica()
    client = await opened(
        replica, shared="broker", database_url=f"sqlite:///{tmp_path}/notes.db", broker_url=nats.url
    )  # fmt: skip
    tenant = {"x-tenant": "a"}
    assert [(await client.get(path, headers=tenant)).status_code for path in ("/notes", "/limited", "/strict")] == [
        200
    ] * 3
    nats.stop()
    with caplog.at_level(logging.WARNING):
        statuses = [(await client.get(path, headers=tenant)).status_code for path in ("/notes", "/limited", "/strict")]
        assert statuses == [200, 200, 503]
        assert (await client.post("/notes/a")).status_code == 200
    assert (await client.get("/notes")).json() == ["a"]
    told = [record.getMessage() for record in caplog.records if "what the replicas share" in record.getMessage()]
    assert len(told) == 1
    nats.start()
    runs = replica.runs
    async with asyncio.timeout(20):
        while True:
            answer = await client.get("/notes")
            assert answer.json() == ["a"]
            if "age" in answer.headers:
                break
            await asyncio.sleep(0.05)
    assert (await client.get("/strict", headers=tenant)).status_code == 200
    assert replica.runs > runs


async def test_a_crash_of_postgres_leaves_nothing_kept(opened: Open) -> None:
    """What was kept is not logged, so that it is gone; what is asked is handled again, and kept anew."""
    server = started()
    try:
        replica = Replica()
        client = await opened(replica, shared="database", database_url=server.url())
        await client.get("/notes")
        assert "age" in (await client.get("/notes")).headers
        server.stop("immediate")
        assert (await client.get("/notes")).status_code == 503
        server.start()
        async with asyncio.timeout(20):
            while True:
                answer = await client.get("/notes")
                if "age" in answer.headers:
                    break
                await asyncio.sleep(0.05)
        assert replica.runs >= 2
        assert answer.json() == []
    finally:
        server.remove()


async def test_the_documented_permissions_are_enough(
    opened: Open, serve_nats: Callable[..., EmbeddedNats], tmp_path: Path
) -> None:
    """A user of NATS with what docs/operating.md names for the shelf, and no more, shares; without it nobody waits."""
    table = [(cell, purpose) for cell, purpose in rows(page_at("docs/operating.md").section("Permissions on NATS"))]
    subjects = [
        subject.replace("SERVICE", "notes")
        for cell, purpose in table
        if "every service" in purpose or "TORPOR_SHARED" in purpose
        for subject in re.findall(r"`([^`]+)`", cell)
    ]
    for allowed, ages in ((subjects, [False, True]), (subjects[:2], [False, False])):
        quoted = ", ".join(f'"{subject}"' for subject in allowed)
        permissions = f'publish: {{allow: [{quoted}]}}, subscribe: {{allow: ["_INBOX.>"]}}'
        config = tmp_path / f"nats-{len(allowed)}.conf"
        config.write_text(
            f'authorization {{ users: [{{user: u, password: "s3cret", permissions: {{{permissions}}}}}] }}'
        )
        server = serve_nats(arguments=["--config", str(config)])
        url = server.url.replace("nats://", "nats://u:s3cret@")
        client = await opened(
            Replica(), shared="broker", database_url=f"sqlite:///{tmp_path}/{len(allowed)}.db", broker_url=url
        )
        assert ["age" in (await client.get("/notes")).headers for _ in range(2)] == ages
        await client.post("/notes/a")
        assert (await client.get("/notes")).json() == ["a"]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"shared": "database"}, "TORPOR_DATABASE_URL is not set"),
        ({"shared": "broker", "database_url": "memory://"}, "TORPOR_BROKER_URL is not set"),
        ({"shared": "broker", "broker_url": "kafka://h:9092", "database_url": "memory://"}, "Kafka keeps no values"),
        (
            {"shared": "broker", "broker_url": "nats://h", "database_url": "memory://", "delivery": "push"},
            "push keeps no",
        ),
        ({"shared": "cloud", "database_url": "memory://"}, "memory, broker, database"),
    ],
)
def test_a_place_that_cannot_be_is_refused(environ: dict[str, Any], told: str) -> None:
    """It is told before anything is opened, with what to set instead."""
    with pytest.raises(ConfigurationError, match=told):
        assemble([Replica().service], Settings.read({f"TORPOR_{name.upper()}": text for name, text in environ.items()}))
