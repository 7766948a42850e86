"""A keeper beside services on one database: who publishes, how soon, and again."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING

import pytest

from torpor import Event, Service, Tx
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.adapters.system.clock import SystemClock
from torpor.assembly import duties_of, keeper_duties, open_store, plans_of
from torpor.cli import main
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.integration.postgres_server import PostgresServer
    from torpor.ports.store import Store
    from torpor.runtime.host import Duty

DEADLINE = 30.0
TABLE = {"0001_tally.sql": "CREATE TABLE tally (number BIGINT NOT NULL)"}


class Counted(Event, topic="counted", key="key"):
    key: str
    number: int


counter = Service("counter")


@counter.post("/count/{number}")
async def count(number: int, tx: Tx) -> None:
    tx.publish(Counted(key="k", number=number))


@counter.on(Counted)
async def tally(event: Counted, tx: Tx) -> None:
    await tx.execute("INSERT INTO tally (number) VALUES ($1)", event.number)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/{{service}}.db"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return f"{postgres.url()}&schema={tmp_path.name}"


class Processes:
    """Processes of the service on one database and one broker, which does not know duplicates."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hub = MemoryHub(deduplicates=False)
        self.hosts: list[Host] = []

    async def start(self, duties: list[Duty]) -> Host:
        """Starts another, with its own connections."""
        store: Store = open_store(self.url, "counter")
        await store.migrate(TABLE)
        (plan,) = plans_of([counter])
        host = Host(plan, broker=MemoryBroker(self.hub), store=store, clock=SystemClock(), duties=duties)
        self.hosts.append(host)
        await host.start()
        await until(lambda: host.is_ready)
        return host

    async def keeper(self) -> Host:
        """Starts one that has the keeper's duties, and the lease."""
        host = await self.start(keeper_duties())
        await until(lambda: host.duties[0].lease.epoch is not None)  # type: ignore[attr-defined]  # the relay
        return host

    async def service(self) -> Host:
        """Starts one that has all duties."""
        (plan,) = plans_of([counter])
        return await self.start(list(duties_of(plan)))

    async def numbers(self) -> list[int]:
        """The effects, in order of number."""
        async with self.hosts[0].store.unit() as unit:
            rows = await unit.statements.fetch("SELECT number FROM tally ORDER BY number", ())
        return [row["number"] for row in rows]


@pytest.fixture
async def processes(url: str) -> AsyncIterator[Processes]:
    """None yet."""
    processes = Processes(url)
    yield processes
    for host in processes.hosts:
        await host.stop(5)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a fact."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # a fact tells no event
            await asyncio.sleep(0.001)


async def commit(host: Host, number: int) -> None:
    """Commits an event in a process."""
    (route,) = host.plan.routes
    await host.responder(route.handled).respond({"number": number})


async def seconds_until_published(keeper: Host, service: Host, number: int) -> float:
    """How long a commit of one process takes to be published by another, whose relay has come to rest."""
    await until(lambda: keeper.is_idle)
    before, begun = keeper.metrics.published, time.perf_counter()
    await commit(service, number)
    await until(lambda: keeper.metrics.published > before)
    return time.perf_counter() - begun


async def test_a_keeper_publishes_for_a_service_and_a_service_for_a_keeper(processes: Processes) -> None:
    """Whoever holds the lease publishes; when it stops, the other goes on by itself."""
    keeper, service = await processes.keeper(), await processes.service()
    await commit(service, 1)
    await until(lambda: keeper.metrics.published == 1)
    assert service.metrics.published == 0

    await keeper.stop()
    await commit(service, 2)
    await until(lambda: service.metrics.published == 1)


async def test_a_replay_beside_a_running_service(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was published is published again in its order, at once, and has no second effect."""
    service = await processes.service()
    for number in range(20):
        await commit(service, number)
    await until(lambda: len(processes.hub.published) == 20 and service.is_idle)

    monkeypatch.setenv("TORPOR_DATABASE_URL", processes.url)
    command = ["outbox", "replay", "--since", "1h", "--yes", "--service", "counter"]
    assert await asyncio.to_thread(main, command) == 0
    await until(lambda: len(processes.hub.published) >= 40)
    await commit(service, 20)
    await until(lambda: processes.hub.published[-1].data.endswith(b":20}") and service.is_idle)

    again = [message.id for message in processes.hub.published[20:-1]]
    assert again[-20:] == [message.id for message in processes.hub.published[:20]]
    assert await processes.numbers() == list(range(21))
    state = await service.store.outbox.state()
    assert (state.kept, state.waiting) == (21, 0)


async def test_a_hint_is_sooner_than_the_poll(postgres: PostgresServer, tmp_path: Path) -> None:
    """What another process commits is published several times sooner with hints than behind a pooler, where there are
    none."""
    medians = {}
    for pooled in ("no", "yes"):
        processes = Processes(f"{postgres.url()}&schema={tmp_path.name}{pooled}&pooled={pooled}")
        keeper, service = await processes.keeper(), await processes.service()
        waits = [await seconds_until_published(keeper, service, number) for number in range(7)]
        medians[pooled] = median(waits)
        for host in (service, keeper):
            await host.stop(5)

    assert medians["no"] < medians["yes"] / 3
