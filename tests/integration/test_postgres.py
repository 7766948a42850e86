"""The PostgreSQL store beside other processes and through outages: crashes, cut connections, locks, poolers."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.postgres_server import (
    PASSWORD,
    administer,
    blocks_read,
    eventually,
    run_alone,
    start_process,
    started,
)
from tests.integration.postgres_wire import Bouncer, Proxy
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.queries import MIGRATIONS as OURS
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import ConfigurationError, LeaseLost, StatementFailed, StoreUnavailable
from torpor.kernel.message import Message, ParkedMessage, Timer
from torpor.kernel.parked import ParkedQuery
from torpor.testing.conformance.store import (
    DEADLINE,
    OWN,
    admitted,
    claimed,
    committed,
    due_ids,
    last_of,
    message,
    numbers_of,
    parked,
    pending_ids,
    relay_lease,
)
from torpor.testing.conformance.store_sql import note_model, rows, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.integration.postgres_server import PostgresServer
    from torpor.ports.store import Store
    from torpor.ports.unit import Unit

MIGRATIONS = {**OWN, "0002_rows.sql": "INSERT INTO note (id) VALUES ('1'), ('2')"}
ODD = ["a\x00b", "\x1a", "\x1a0000", "k" * 100_000, "\x00" * 2000, "é" * 600]

MIGRATE = f"""
import asyncio, json, sys
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(asyncio.run(PostgresStore(sys.argv[1], SystemClock()).migrate({MIGRATIONS!r}))))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that all tests of the module share, and that is up when each begins."""
    server = started("deadlock_timeout=50ms")
    yield server
    server.remove()


@pytest.fixture
async def database(server: PostgresServer) -> str:
    """The name of a new, empty database."""
    name = f"integration_{uuid4().hex}"
    connection = await asyncpg.connect(server.url())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return name


@pytest.fixture
def url(server: PostgresServer, database: str) -> str:
    """Its address."""
    return server.url(database)


@pytest.fixture
async def stores() -> AsyncIterator[Callable[..., PostgresStore]]:
    """Makes stores, which are stopped after the test."""
    made: list[PostgresStore] = []

    def make(url: str, **options: Any) -> PostgresStore:
        made.append(PostgresStore(url, SystemClock(), PostgresOptions(**options)))
        return made[-1]

    yield make
    for store in made:
        await store.stop()


@pytest.fixture
async def store(url: str, stores: Callable[..., PostgresStore]) -> PostgresStore:
    """A started store on the database."""
    store = stores(url)
    await store.migrate(MIGRATIONS)
    await store.start()
    return store


@pytest.fixture
async def proxy(server: PostgresServer) -> AsyncIterator[Proxy]:
    """Stands before the server, and can cut connections."""
    proxy = Proxy(server.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def test_a_database_that_crashes_mid_unit(server: PostgresServer, store: PostgresStore) -> None:
    """The unit fails as StoreUnavailable and leaves nothing; until the server is back all fails so, and then works."""
    await committed(store, message("kept"))
    async with store.unit() as unit:
        await unit.admit("b", [message("1")])
        await unit.append([message("1")], [])
        server.stop("immediate")
        with pytest.raises(StoreUnavailable):
            await unit.commit()

    for call in (store.ping, lambda: admitted(store, "b", ["1"]), lambda: store.outbox.pending(1)):
        with pytest.raises(StoreUnavailable):
            await call()

    server.start()
    await eventually(store.ping)
    assert await pending_ids(store) == ["kept"]
    assert await admitted(store, "b", ["1"]) == {"1"}


async def test_a_database_that_crashes_under_idle_connections(server: PostgresServer, store: PostgresStore) -> None:
    """After a restart the first unit may fail, and the next ones work: lost connections are opened anew."""
    await asyncio.gather(*(committed(store, message(str(number))) for number in range(4)))
    server.stop("immediate")
    server.start()

    await eventually(lambda: committed(store, message("after")))
    for number in range(8):
        await committed(store, message(f"after {number}"))


@pytest.mark.parametrize("is_applied", [False, True])
async def test_a_connection_cut_on_commit(
    server: PostgresServer, database: str, stores: Callable[..., PostgresStore], proxy: Proxy, *, is_applied: bool
) -> None:
    """Whether the commit arrived or not it raises StoreUnavailable, and the inbox tells when the unit is done again."""
    store = stores(server.url(database, port=proxy.port))
    await store.migrate(OWN)
    await store.start()
    async with store.unit() as unit:
        await unit.admit("b", [message("1")])
        await unit.append([message("1")], [])
        proxy.cut_on(b"COMMIT", is_forwarded=is_applied)
        with pytest.raises(StoreUnavailable):
            await unit.commit()

    async with store.unit() as unit:
        fresh = set((await unit.admit("b", [message("1")])).fresh)
        assert fresh == (set() if is_applied else {"1"})
        await unit.append([message(id) for id in fresh], [])
        await unit.commit()
    assert await pending_ids(store) == ["1"]


async def test_a_backend_that_is_terminated(store: PostgresStore, url: str) -> None:
    """A unit whose connection an administrator ends fails as StoreUnavailable, and the next one works."""
    async with store.unit() as unit:
        (row,) = await unit.statements.fetch("SELECT pg_backend_pid() AS pid", ())
        await administer(url, "SELECT pg_terminate_backend($1)", row["pid"])
        with pytest.raises(StoreUnavailable):
            await run(unit, "UPDATE note SET amount = 1")
        with pytest.raises(StoreUnavailable):
            await run(unit, "UPDATE note SET amount = 2")

    assert await rows(store, "SELECT sum(amount)::int AS n FROM note") == [{"n": 0}]


async def test_a_unit_that_holds_its_locks_too_long(store: PostgresStore, stores: Callable[..., PostgresStore]) -> None:
    """A unit of which nothing is asked for longer than is set is ended by PostgreSQL, so that others may go on."""
    slow = stores(store._database.address.dsn, idle_seconds=0.05)
    await slow.start()
    async with slow.unit() as stuck:
        await run(stuck, "UPDATE note SET amount = 7 WHERE id = '1'")
        async with asyncio.timeout(DEADLINE), store.unit() as unit:
            await run(unit, "UPDATE note SET amount = 1 WHERE id = '1'")
            await unit.commit()
        with pytest.raises(StoreUnavailable):
            await stuck.commit()

    assert await rows(store, "SELECT amount FROM note WHERE id = '1'") == [{"amount": 1}]


async def test_a_pool_that_is_exhausted(store: PostgresStore, stores: Callable[..., PostgresStore]) -> None:
    """A unit that finds no connection in time fails with advice, and once one is free units work again."""
    small = stores(store._database.address.dsn, connections=1, wait_seconds=0.05)
    await small.start()
    async with small.unit() as unit:
        await unit.admit("b", [message("1")])
        with pytest.raises(StoreUnavailable, match="connections=…"):
            await admitted(small, "b", ["2"])
        await small.ping()

    assert await admitted(small, "b", ["1", "2"]) == {"1", "2"}


async def test_an_unreachable_server_is_told_without_credentials(
    server: PostgresServer, url: str, stores: Callable[..., PostgresStore], proxy: Proxy
) -> None:
    """A wrong password, a missing database and a closed port are StoreUnavailable with the place, and no secret."""
    await proxy.stop()
    wrong = [
        url.replace(PASSWORD, "pa55-word"),
        server.url("no_such_database"),
        url.replace(str(server.port), str(proxy.port)),
    ]
    for address in wrong:
        store = stores(address)
        for call in (store.start, lambda store=store: store.migrate({})):
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+/\w+: ") as failure:
                await call()
            assert "pa55-word" not in str(failure.value)
            assert PASSWORD not in str(failure.value)


@pytest.mark.parametrize(
    "address",
    ["localhost/db", "mysql://u:pa55-word@h/db", "postgresql://u:pa55-word@[h/db", "postgresql://u:pa55-word/x@h/d"],
)
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    """What is no address of PostgreSQL is a ConfigurationError that shows the expected form, and no secret."""
    with pytest.raises(ConfigurationError, match="expected postgresql://") as failure:
        PostgresStore(address, SystemClock())
    assert "pa55-word" not in str(failure.value)


def test_options_are_checked() -> None:
    """All that is wrong with the options is told at once."""
    with pytest.raises(ConfigurationError) as failure:
        PostgresOptions(schema="a'b", connections=0, isolation="CHAOS")
    assert len(failure.value.problems) == 3


async def test_a_deadlock_fails_one_of_two_units_for_a_while(store: PostgresStore) -> None:
    """The one that PostgreSQL chooses gets StoreUnavailable, so that it is tried again, and the other commits."""
    met = asyncio.Barrier(2)

    async def one(first: str, second: str) -> None:
        async with store.unit() as unit:
            await run(unit, "UPDATE note SET amount = amount + 1 WHERE id = $1", first)
            await met.wait()
            await run(unit, "UPDATE note SET amount = amount + 1 WHERE id = $1", second)
            await unit.commit()

    async with asyncio.timeout(DEADLINE):
        ends = await asyncio.gather(one("1", "2"), one("2", "1"), return_exceptions=True)

    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "StoreUnavailable"]
    assert await rows(store, "SELECT amount FROM note") == [{"amount": 1}] * 2


async def test_a_serialization_failure_can_be_tried_again(
    store: PostgresStore, stores: Callable[..., PostgresStore]
) -> None:
    """Under a stricter isolation the unit that lost gets StoreUnavailable; done again, it has its effect."""
    strict = stores(store._database.address.dsn, isolation="REPEATABLE READ")
    await strict.start()

    async def add(unit: Unit) -> None:
        (row,) = await unit.statements.fetch("SELECT amount FROM note WHERE id = '1'", ())
        await run(unit, "UPDATE note SET amount = $1 WHERE id = '1'", row["amount"] + 1)

    async with strict.unit() as late:
        await rows(store, "SELECT 1 AS n")
        await late.statements.fetch("SELECT amount FROM note", ())
        async with strict.unit() as early:
            await add(early)
            await early.commit()
        with pytest.raises(StoreUnavailable):
            await add(late)
    async with strict.unit() as again:
        await add(again)
        await again.commit()

    assert await rows(store, "SELECT amount FROM note WHERE id = '1'") == [{"amount": 2}]


async def test_processes_may_migrate_at_once(url: str, stores: Callable[..., PostgresStore]) -> None:
    """Of several that start on a new database, each migration is applied by one, and none fails."""
    others = [start_process(MIGRATE, url) for _ in range(3)]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
    for other in others:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
    applied = [name for other in others for name in json.loads(other.communicate(timeout=DEADLINE)[0])]

    assert sorted(applied) == ["0001_note.sql", "0002_rows.sql", *(f"torpor/{name}" for name in OURS)]
    store = stores(url)
    await store.start()
    assert await rows(store, "SELECT id FROM note ORDER BY id") == [{"id": "1"}, {"id": "2"}]


async def test_a_reader_of_the_log_loses_nothing(store: PostgresStore, stores: Callable[..., PostgresStore]) -> None:
    """While two stores append side by side, whoever reads and advances gets each row once, in order of position in its
    shard and in order of commits in its key."""
    another = stores(store._database.address.dsn)
    await another.start()
    epoch = await relay_lease(store)
    read: list[Any] = []

    async def append(writer: Store, lane: str) -> None:
        for number in range(25):
            async with writer.unit() as unit:
                batch = [message(f"{lane}.{number}.{nth}", key=f"{lane}{nth % 3}") for nth in range(6)]
                await unit.append(batch, [])
                await asyncio.sleep(0)
                await unit.commit()

    async def relay(writing: asyncio.Future[Any]) -> None:
        while True:
            is_over = writing.done()
            entries = await store.outbox.pending(40)
            read.extend(entries)
            await store.outbox.advance(last_of(entries), epoch)
            if is_over and not entries:
                return

    async with asyncio.timeout(DEADLINE):
        writing = asyncio.gather(
            *(append(writer, f"{n}{lane}") for n, writer in enumerate((store, another)) for lane in "abcd")
        )
        await asyncio.gather(writing, relay(writing))

    ids = [entry.message.id for entry in read]
    assert len(ids) == len(set(ids)) == 2 * 4 * 25 * 6
    for shard in {entry.shard for entry in read}:
        positions = [entry.position for entry in read if entry.shard == shard]
        assert positions == sorted(positions)
    for key in {entry.message.key for entry in read}:
        mine = [tuple(map(int, entry.message.id.split(".")[1:])) for entry in read if entry.message.key == key]
        assert mine == sorted(mine)


async def test_a_takeover_fences_the_cursors(store: PostgresStore, url: str) -> None:
    """An advance that meets a takeover under way waits for it, and then moves nothing."""
    await committed(store, message("1"))
    old = await relay_lease(store)
    operator = await asyncpg.connect(url)
    async with operator.transaction():
        await operator.execute("UPDATE torpor_lease SET holder = 'another', epoch = epoch + 1")
        advancing = asyncio.create_task(store.outbox.advance(last_of(await store.outbox.pending(1)), old))
        async with asyncio.timeout(DEADLINE):
            while not (advancing.done() or await operator.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await operator.execute("SELECT pg_stat_clear_snapshot()")
    await operator.close()

    with pytest.raises(LeaseLost, match=f"epoch is {old + 1}"):
        await advancing
    assert await pending_ids(store) == ["1"]


async def test_a_swallowed_failure_is_told_at_the_commit(store: PostgresStore) -> None:
    """PostgreSQL calls the commit of a failed transaction a success that did nothing; the unit does not."""
    async with store.unit() as unit:
        await run(unit, "INSERT INTO note (id) VALUES ('3')")
        with suppress(StatementFailed):
            await run(unit, "INSERT INTO note (id) VALUES ('3')")
        with pytest.raises(StatementFailed, match="let its error pass"):
            await run(unit, "INSERT INTO note (id) VALUES ('4')")
        with pytest.raises(StatementFailed, match="rolled back"):
            await unit.commit()

    assert await rows(store, "SELECT id FROM note ORDER BY id") == [{"id": "1"}, {"id": "2"}]


@pytest.mark.parametrize(
    "statement",
    ["COMMIT", "/* x */ rollback", "-- x\nBEGIN", "SELECT 1; COMMIT", "UPDATE note SET body = ';'; SELECT $$;$$"],
)
async def test_a_handler_cannot_end_the_transaction(store: PostgresStore, statement: str) -> None:
    """Statements that begin or end transactions, or are several, are refused before they are sent."""
    async with store.unit() as unit:
        await run(unit, "UPDATE note SET amount = 1")
        with pytest.raises(StatementFailed, match=r"not for handlers|one by one"):
            await run(unit, statement)
        assert await run(unit, "UPDATE note SET body = $a$; COMMIT$a$ || E'\\'; COMMIT' || ';' -- ; COMMIT\n;") == 2

    assert await rows(store, "SELECT sum(amount)::int AS n FROM note") == [{"n": 0}]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_any_text_of_a_message_can_be_stored(store: PostgresStore, odd: str) -> None:
    """NUL, lone surrogates and long texts in id, key, type, reason and attributes come back, and are found again."""
    whole = Message("t", b"x", id=f"{odd}\ud800", type=odd, key=odd, attributes={"subject": f"{odd}\ud800"})
    row = ParkedMessage("b", whole, reason=odd, at=1.0, due_at=1.0)
    timer = Timer(odd, 5.0, whole)
    for expected in ({whole.id}, set()):
        async with store.unit() as unit:
            assert set((await unit.admit("b", [whole])).fresh) == expected
            await unit.commit()
    await committed(store, whole, message("2"), parked=[row])
    async with store.unit() as unit:
        assert set((await unit.admit("b", [message("3", key=odd), message("4", key="k")])).blocked) == {odd}
        await unit.append([], [], [timer])
        await unit.commit()

    assert [entry.message for entry in await store.outbox.pending(10)] == [whole, message("2")]
    (found,) = await store.parking.list(ParkedQuery(key=odd))
    assert (found.message, found.reason) == (whole, odd)
    assert [row.message for row in await store.parking.due(1.0, 10)] == [whole]
    (due,) = await store.timers.due(5.0, 10)
    assert (due.name, due.message) == (odd, whole)
    async with store.unit() as unit:
        assert await unit.cancel(odd, 5.0)


async def test_units_that_are_cancelled_leave_nothing(store: PostgresStore, url: str) -> None:
    """A unit that is cancelled in the middle of a statement is rolled back, and its connection is not lost."""
    blocker = await asyncpg.connect(url)
    async with blocker.transaction():
        await blocker.execute("UPDATE note SET amount = 0")

        async def wait() -> None:
            async with store.unit() as unit:
                await unit.append([message("1")], [])
                await run(unit, "UPDATE note SET amount = 9")
                await unit.commit()

        tasks = [asyncio.create_task(wait()) for _ in range(10)]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid' OR wait_event = 'tuple'"
        async with asyncio.timeout(DEADLINE):
            while not await blocker.fetchval(waiting):
                await blocker.execute("SELECT pg_stat_clear_snapshot()")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await blocker.close()

    assert await pending_ids(store) == []
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(run_alone(store, "UPDATE note SET amount = amount + 1") for _ in range(8)))
    assert await rows(store, "SELECT amount FROM note") == [{"amount": 8}] * 2


async def test_statements_of_a_unit_at_once_are_refused(store: PostgresStore) -> None:
    """A handler that gathers its first statements gets an error, and no connection is lost by it."""
    for _ in range(6):
        async with store.unit() as unit:
            ends = await asyncio.gather(
                *(run(unit, "UPDATE note SET amount = 1") for _ in range(3)), return_exceptions=True
            )
            assert [type(end) for end in ends].count(StatementFailed) == 2
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(committed(store, message(str(number))) for number in range(8)))


async def test_a_table_that_a_migration_changes_under_a_service(store: PostgresStore, url: str) -> None:
    """What was prepared for the old table is refused once as StoreUnavailable, and prepared anew when tried again."""
    pytest.importorskip("sqlmodel", reason="sqlmodel is not installed")
    note = note_model()

    async def use() -> None:
        async with store.unit() as unit:
            assert len(await unit.statements.fetch("SELECT * FROM note", ())) == 2
            await unit.statements.session().get(note, "1")
            await unit.commit()

    await use()
    await administer(url, "ALTER TABLE note ADD COLUMN more INT, ALTER COLUMN amount TYPE NUMERIC")
    await eventually(use)
    await use()


async def test_no_value_is_told_anywhere(store: PostgresStore) -> None:
    """Neither the error nor the driver's, which is logged as its cause, quotes a row or a parameter."""
    refused: list[tuple[str, object]] = [
        ("INSERT INTO note (id, body) VALUES ('1', $1)", "secret-value"),
        ("UPDATE note SET amount = $1", "secret-value"),
        ("UPDATE note SET body = $1", "secret-value and a NUL, \x00"),
        ("UPDATE note SET amount = $1::text::int", "secret-value"),
        ("UPDATE note SET body = $1::text::uuid::text", "secret-value"),
    ]
    await run_alone(store, "CREATE UNIQUE INDEX ON note (body)")
    await run_alone(store, "UPDATE note SET body = 'secret-value' WHERE id = '1'")
    refused.append(("UPDATE note SET body = $1 WHERE id = '2'", "secret-value"))
    for statement, parameter in refused:
        async with store.unit() as unit:
            with pytest.raises(StatementFailed) as failure:
                await run(unit, statement, parameter)
        error: BaseException | None = failure.value
        while error is not None:
            assert "secret-value" not in str(error)
            error = error.__cause__


async def test_a_long_queue_behind_one_key_costs_nothing(store: PostgresStore, url: str) -> None:
    """A hundred thousand rows behind one key are not read to find what is due, or whether the key is blocked."""
    await committed(store, parked=[parked("b", "first", key="k"), parked("b", "other", key="z", due_at=1)])
    await administer(
        url,
        "INSERT INTO torpor_parked (binding, queue, key, topic, type, id, headers, payload, reason, attempts, at,"
        " due_at) SELECT 'b', 'k', 'k', 't', 'y', n::text, '{}', '', 'waits', 0, 1, 0"
        " FROM generate_series(1, 100000) AS n",
    )

    assert await due_ids(store, 1000) == ["other"]
    named = store._database.queries
    assert await blocks_read(store, named["due"], 1000.0, 100) < 60
    assert await blocks_read(store, named["blocked"], "b", ["k", "z", "x"]) < 60


async def test_a_row_that_is_being_claimed_is_left_alone(store: PostgresStore) -> None:
    """An operator who redrives or discards while a unit has the row does not wait for the unit."""
    (number,) = await numbers_of(store, parked("b", "1", due_at=1))
    async with asyncio.timeout(DEADLINE), store.unit() as unit:
        assert await unit.claim(number)
        assert await store.parking.redrive(ParkedQuery(numbers=[number]), 5) == 0
        assert await store.parking.discard(ParkedQuery(numbers=[number])) == 0

    assert await claimed(store, number)


async def test_schemas_keep_services_apart(store: PostgresStore, stores: Callable[..., PostgresStore]) -> None:
    """Two services in one database have tables of their own, Torpor's and theirs."""
    other = stores(store._database.address.dsn, schema='Other "one"')
    await other.migrate(OWN)
    await other.start()
    await committed(other, message("theirs"))
    await committed(store, message("ours"))

    assert await pending_ids(other) == ["theirs"]
    assert await pending_ids(store) == ["ours"]
    assert await rows(other, "SELECT id FROM note") == []
    assert len(await rows(store, "SELECT id FROM note")) == 2


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="not promised: PgBouncer is not installed")
async def test_a_pooler_in_transaction_mode(
    server: PostgresServer, database: str, tmp_path: Path, stores: Callable[..., PostgresStore]
) -> None:
    """Behind PgBouncer, with fewer connections than units, everything works and nothing leaks between units."""
    pytest.importorskip("sqlmodel", reason="sqlmodel is not installed")
    note = note_model()
    bouncer = Bouncer(server, database)
    bouncer.start()
    try:
        store = stores(server.url(database, port=bouncer.port), is_pooled=True, schema="pooled", connections=6)
        await eventually(lambda: store.migrate(OWN))
        await store.start()
        epoch = await relay_lease(store)

        async def one(number: int) -> None:
            async with store.unit() as unit:
                await unit.admit("b", [message(str(number))])
                await unit.savepoint()
                await run(unit, "INSERT INTO note (id, amount) VALUES ($1, $2)", str(number), number)
                unit.statements.session().add(note(id=f"session {number}"))
                await unit.append([message(str(number), key="k")], [])
                await unit.commit()
            await store.outbox.pending(10)
            await store.parking.due(1.0, 10)

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(one(number) for number in range(30)))
        assert await rows(store, "SELECT count(*) AS n FROM note") == [{"n": 60}]
        entries = await store.outbox.pending(100)
        assert len(entries) == 30
        await store.outbox.advance(last_of(entries), epoch)
        await store.outbox.trim(published=1e12, admitted=1e12)
        assert (await store.outbox.state()).kept == 0
        await store.stop()
    finally:
        bouncer.stop()
