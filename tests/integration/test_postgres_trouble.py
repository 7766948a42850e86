"""PostgreSQL that fails the service in every way an operator knows: a clear word, nothing lost or doubled, recovery."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.postgres_server import PASSWORD, administer, started
from tests.integration.trouble import Ledger, running, until
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.kernel.errors import StatementFailed
from torpor.kernel.parked import ParkedQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.integration.postgres_server import PostgresServer
    from torpor import Tx
    from torpor.adapters.nats.embedded import EmbeddedNats

SECRET = "hidden-reef"  # of a role that lives for seconds


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for all tests, with few connections."""
    server = started("max_connections=20")
    yield server
    server.remove()


class Role:
    """An ordinary role that owns a database, and what its operator does to it."""

    def __init__(self, server: PostgresServer) -> None:
        self.name = f"role_{uuid4().hex}"
        self._server = server

    @property
    def url(self) -> str:
        """The address of its database, for itself."""
        place = self._server.url(self.name).partition("@")[2]
        return f"postgresql://{self.name}:{SECRET}@{place}"

    async def create(self) -> None:
        """Makes it."""
        await administer(self._server.url(), f"CREATE ROLE {self.name} LOGIN PASSWORD '{SECRET}'")
        await administer(self._server.url(), f"CREATE DATABASE {self.name} OWNER {self.name}")

    async def do(self, statement: str) -> None:
        """Runs a statement as the server's owner, in the role's database."""
        await administer(self._server.url(self.name), statement.replace("{role}", self.name))

    async def cut(self, program: str = "torpor") -> None:
        """Ends all its connections of a program."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND application_name = $2"
        await administer(self._server.url(), ended, self.name, program)


@pytest.fixture
async def role(server: PostgresServer) -> Role:
    """A role with a database."""
    role = Role(server)
    await role.create()
    return role


@pytest.fixture
def make(role: Role, nats_server: EmbeddedNats, tmp_path: Path) -> Callable[..., Ledger]:
    """Makes the service on the role's database, with options by name."""

    def make(**options: Any) -> Ledger:
        store = PostgresOptions(**options)
        return Ledger(nats_server.url, lambda clock: PostgresStore(role.url, clock, store), tmp_path)

    return make


@pytest.fixture
async def ledger(make: Callable[..., Ledger]) -> AsyncIterator[Ledger]:
    """The service, running."""
    ledger = make()
    async with running(ledger):
        yield ledger
        assert not told_secrets(ledger)


def told_secrets(ledger: Ledger) -> list[str]:
    """What the log and the status tell that they must not."""
    told = [*ledger.log, json.dumps(ledger.host.status())]
    return [line for line in told if SECRET in line or PASSWORD in line]


async def test_a_backend_that_is_ended_between_two_statements(role: Role, ledger: Ledger) -> None:
    """In a handler the unit is done again; in a route the client is told to come again; nothing is doubled."""
    cuts = {"a": 2, "route": 1}

    async def cut(event: Any, tx: Tx) -> None:
        if cuts.get(event.id):
            cuts[event.id] -= 1
            await role.cut()

    ledger.between = ledger.during = cut
    assert await ledger.ask("route") == 503
    for id in "xaby":
        await ask_until_accepted(ledger, id)
    await ledger.settled()
    assert sorted(await ledger.ids("accepted")) == ["a", "b", "x", "y"]
    assert any("cannot go on" in line or "terminat" in line for line in ledger.log), ledger.log


async def test_a_server_that_crashes_between_two_statements(server: PostgresServer, ledger: Ledger) -> None:
    """Stopped at once while a handler is at work, and started again: everything accepted is done once."""
    crashes = ["3"]
    crashed = asyncio.Event()

    async def crash(event: Any, tx: Tx) -> None:
        if event.id in crashes:
            crashes.clear()
            await asyncio.to_thread(server.stop)
            crashed.set()

    ledger.between = crash
    for id in "1234":
        await ask_until_accepted(ledger, id)
    async with asyncio.timeout(20):
        await crashed.wait()
    await until(lambda: not ledger.host.is_ready)
    assert await ledger.ask("5") == 503
    assert (await ledger.client.get("/-/ready")).status_code == 503
    await asyncio.to_thread(server.start)
    await ledger.ready()
    assert await ledger.ask("6") == 202
    await ledger.settled()


async def test_a_pool_that_is_exhausted(make: Callable[..., Ledger]) -> None:
    """Who comes too late waits, and is then told to come again; the others go on, and so does everything after."""
    ledger = make(connections=2, wait_seconds=0.2)
    release = asyncio.Event()

    async def hold(event: Any, tx: Tx) -> None:
        await release.wait()

    async with running(ledger):
        ledger.during = hold
        asks = [asyncio.create_task(ledger.ask(str(number))) for number in range(6)]
        await until(lambda: sum(task.done() for task in asks) >= 4)
        release.set()
        answers = await asyncio.gather(*asks)
        assert sorted(answers) == [202, 202, 503, 503, 503, 503]
        assert any("connections" in line for line in ledger.log), ledger.log
        assert await ledger.ask("after") == 202
        await ledger.settled()
        assert not told_secrets(ledger)


async def test_a_unit_inside_a_unit_does_not_wait_for_ever(make: Callable[..., Ledger]) -> None:
    """With one connection a route that opens a second transaction inside its own is refused after the wait."""
    ledger = make(connections=1, wait_seconds=0.2)

    async def nest(event: Any, tx: Tx) -> None:
        async with ledger.store.unit() as unit:
            await unit.statements.fetch("SELECT 1", ())

    async with running(ledger):
        ledger.during = nest
        assert await ledger.ask("nested") == 503
        ledger.during = ledger.between
        assert await ledger.ask("plain") == 202
        await ledger.settled()


async def test_a_server_without_a_free_connection(
    server: PostgresServer, role: Role, make: Callable[..., Ledger]
) -> None:
    """At the start and later: not ready with the server's reason, 503, and by itself when there is one again."""
    ledger = make()
    await ledger.store.migrate(ledger.service.migrations())
    taken = await take_all(role)
    async with running(ledger, is_migrated=False):
        await until(lambda: "connection" in json.dumps(ledger.host.status()), ledger.host.status)
        assert await ledger.ask("0") == 503
        await let_go(taken)
        await ledger.ready()
        assert await ledger.ask("1") == 202
        await ledger.settled()
        taken = await take_all(role)
        try:
            while ledger.host.is_ready:
                await role.cut()
                taken += await take_all(role)
            assert await ledger.ask("2") == 503
            assert "connection" in json.dumps(ledger.host.status())
            assert not told_secrets(ledger)
        finally:
            await let_go(taken)
        await ledger.ready()
        assert await ledger.ask("3") == 202
        await ledger.settled()


async def take_all(role: Role) -> list[asyncpg.Connection]:
    """Takes every connection that the server gives to an ordinary role."""
    taken = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(role.url, server_settings={"application_name": "taker"}))
    return taken


async def let_go(taken: list[asyncpg.Connection]) -> None:
    """Gives them back."""
    for connection in taken:
        await connection.close()


async def ask_until_accepted(ledger: Ledger, id: str) -> None:
    """Asks as a client does that is told to come again."""
    await until(lambda: _is_accepted(ledger, id))


async def _is_accepted(ledger: Ledger, id: str) -> bool:
    status = await ledger.ask(id)
    assert status in (202, 503)
    return status == 202


async def test_a_role_that_may_no_longer_write_a_table(role: Role, ledger: Ledger) -> None:
    """The handler fails, is parked, and says so; redriven with the permission back, it is done."""
    await role.do("REVOKE INSERT, UPDATE ON entry FROM {role}")
    assert await ledger.ask("1") == 202
    await until(lambda: _is_parked(ledger, "permission denied for table entry"))
    await role.do("GRANT INSERT, UPDATE ON entry TO {role}")
    await ledger.store.parking.redrive(ParkedQuery(), 1.0)
    await ledger.settled()


async def test_a_role_that_may_no_longer_write_torpor_s_tables(role: Role, ledger: Ledger) -> None:
    """Nothing can be admitted, so nothing is acknowledged: it waits, says so, and goes on with the permission back."""
    for id in ("first", "second"):
        assert await ledger.ask(id) == 202
        await ledger.settled()
    await role.do("REVOKE INSERT ON torpor_inbox FROM {role}")
    assert await ledger.ask("1") == 202
    await until(lambda: "torpor_inbox" in json.dumps(ledger.host.status()), ledger.host.status)
    assert await ledger.ids("entry") == ["first", "second"]
    await role.do("GRANT INSERT ON torpor_inbox TO {role}")
    await ledger.settled()
    await ledger.ready()

    await role.do("REVOKE INSERT ON torpor_outbox FROM {role}")
    assert await ledger.ask("2") == 503
    await role.do("GRANT INSERT ON torpor_outbox TO {role}")
    await role.do("REVOKE SELECT ON torpor_parked FROM {role}")
    assert await ledger.ask("3") == 202
    await until(lambda: "torpor_parked" in json.dumps(ledger.host.status()), ledger.host.status)
    await role.do("GRANT SELECT ON torpor_parked TO {role}")
    await ledger.settled()
    await ledger.ready()


async def test_a_role_that_may_no_longer_sign_in(role: Role, ledger: Ledger) -> None:
    """It is an outage like any other, with the server's reason."""
    await role.do("ALTER ROLE {role} NOLOGIN")
    await role.cut()
    await until(lambda: "not permitted to log in" in json.dumps(ledger.host.status()), ledger.host.status)
    assert await ledger.ask("1") == 503
    await role.do("ALTER ROLE {role} LOGIN")
    await ledger.ready()
    assert await ledger.ask("2") == 202
    await ledger.settled()


async def test_a_statement_over_the_server_s_limit(role: Role, make: Callable[..., Ledger]) -> None:
    """The handler fails and is parked with the server's reason; the next one is handled."""
    await role.do("ALTER ROLE {role} SET statement_timeout = '300ms'")
    ledger = make()

    async def dawdle(event: Any, tx: Tx) -> None:
        if event.id == "slow":
            await tx.fetch("SELECT pg_sleep(30)")

    async with running(ledger):
        ledger.between = dawdle
        assert await ledger.ask("slow") == 202
        assert await ledger.ask("quick", "bob") == 202
        await until(lambda: _is_parked(ledger, "statement timeout"))
        await ledger.settled(parked=1)
        ledger.during = dawdle
        assert await ledger.ask("slow") == 500


async def test_a_service_before_its_migration(role: Role, make: Callable[..., Ledger]) -> None:
    """It waits, says what to run, and comes up by itself; a broken file changes nothing and is named."""
    ledger = make()
    async with running(ledger, is_migrated=False):
        await until(lambda: "torpor migrate" in json.dumps(ledger.host.status()))
        assert await ledger.ask("early") == 503
        broken = {**ledger.service.migrations(), "0002_broken.sql": "CREATE TABLE other (id TEXT); SELEKT 'x';"}
        with pytest.raises(StatementFailed, match=r"0002_broken\.sql"):
            await make().store.migrate(broken)
        await make().store.migrate({**broken, "0002_broken.sql": "CREATE TABLE other (id TEXT);"})
        await ledger.ready()
        assert await ledger.ask("1") == 202
        await ledger.settled()
        assert not told_secrets(ledger)


async def _is_parked(ledger: Ledger, reason: str) -> bool:
    return any(reason in row.reason for row in await ledger.parked())
