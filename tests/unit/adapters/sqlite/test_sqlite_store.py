"""What the SQLite store adds to its port's contract, in one process."""

from __future__ import annotations

import asyncio
import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from torpor.adapters.memory.clock import EPOCH, VirtualClock
from torpor.adapters.sqlite.options import SqliteOptions
from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import ConfigurationError, SchemaMismatch, StatementFailed, StoreUnavailable
from torpor.testing.conformance.store import OWN, committed, message, parked, pending_ids
from torpor.testing.conformance.store_sql import rows, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """A started store with a table `note` that has a row of id `1`."""
    own = {**OWN, "0002_row.sql": "INSERT INTO note (id) VALUES ('1')"}
    store = SqliteStore(str(path), SystemClock())
    await store.migrate(own)
    await store.start()
    yield store
    await store.stop()


async def test_reading_and_then_writing_loses_no_update(store: SqliteStore) -> None:
    """A handler that reads a row and writes what it computed runs as if it were alone."""

    async def add() -> None:
        async with store.unit() as unit:
            ((amount,),) = [row.values() for row in await unit.statements.fetch("SELECT amount FROM note", ())]
            await asyncio.sleep(0)
            await run(unit, "UPDATE note SET amount = $1", amount + 1)
            await unit.commit()

    await asyncio.gather(*(add() for _ in range(20)))

    assert await rows(store, "SELECT amount FROM note") == [{"amount": 20}]


async def test_a_lease_from_the_future_holds_nobody_up(path: Path) -> None:
    """A lease that was taken while the host's clock was ahead is free once the clock is right again."""
    wrong = SqliteStore(str(path), VirtualClock(EPOCH + 4 * 3600))
    right = SqliteStore(str(path), VirtualClock(EPOCH))
    await wrong.migrate({})
    for store in (wrong, right):
        await store.start()
    assert await wrong.leases.acquire("keeper", "ahead", 3) == 1
    assert await right.leases.acquire("keeper", "right", 3) == 2
    for store in (wrong, right):
        await store.stop()


async def test_a_unit_that_only_reads_writes_nothing(store: SqliteStore, path: Path) -> None:
    """The log of the database does not grow, so there was nothing to wait for the disk for."""
    log = path.with_name("store.db-wal")
    await committed(store, message("1"))
    before = log.stat()
    async with store.unit() as unit:
        assert await unit.statements.fetch("SELECT id FROM note", ()) == [{"id": "1"}]
        assert await run(unit, "UPDATE note SET amount = 1 WHERE id = '9'") == 0
        await unit.commit()

    assert (log.stat().st_size, log.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


async def test_the_log_is_read_while_a_unit_is_open(store: SqliteStore) -> None:
    """The relay, the redriver and the operator do not wait for a handler that takes its time."""
    await committed(store, message("1"), parked=[parked("b", "2")])
    async with store.unit() as unit:
        await unit.append([message("3")], [])
        assert await pending_ids(store) == ["1"]
        assert len(await store.parking.list()) == 1
        await store.ping()


async def test_a_cancelled_commit_is_finished_first(store: SqliteStore) -> None:
    """A task that is cancelled while its commit waits for the disk ends cancelled, committed, and out of the way."""

    async def append() -> None:
        await committed(store, message("1"))

    task = asyncio.create_task(append())
    await asyncio.sleep(0)  # the task has handed its commit to the thread: nothing before it waits
    for _ in range(3):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await committed(store, message("2"))
    assert await pending_ids(store) == ["1", "2"]


async def test_units_cancelled_at_any_moment_leave_the_store_usable(store: SqliteStore) -> None:
    """Whenever tasks are cancelled, each unit is there whole or not at all, and the next one works."""

    async def append(number: int) -> None:
        async with store.unit() as unit:
            await run(unit, "UPDATE note SET amount = amount + 1")
            await asyncio.sleep(0)
            await unit.append([message(str(number))], [])
            await unit.commit()

    for turns in range(12):
        tasks = [asyncio.create_task(append(turns * 10 + number)) for number in range(4)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    ids = await pending_ids(store)
    assert len(ids) == len(set(ids)) >= 24
    assert await rows(store, "SELECT amount FROM note") == [{"amount": len(ids)}]


async def test_stopping_waits_for_a_commit_under_way(store: SqliteStore) -> None:
    """A commit that was handed to the disk when the store stops is kept."""
    task = asyncio.create_task(committed(store, message("1")))
    await asyncio.sleep(0)
    await store.stop()
    await task

    await store.start()
    assert await pending_ids(store) == ["1"]


async def test_a_unit_that_has_ended_runs_no_more(store: SqliteStore) -> None:
    """Statements, sessions and commits after the end are refused, and change nothing."""
    async with store.unit() as unit:
        await run(unit, "UPDATE note SET amount = 1")
        session = unit.statements.session()
        await unit.commit()
        with pytest.raises(StatementFailed, match="has ended"):
            await run(unit, "UPDATE note SET amount = 2")
        with pytest.raises(StatementFailed, match="has ended"):
            await unit.commit()
    with pytest.raises(StatementFailed, match="has ended"):
        await unit.append([message("1")], [])
    with pytest.raises(Exception, match=r"closed|ended"):
        await session.connection()

    assert await rows(store, "SELECT amount FROM note") == [{"amount": 1}]


async def test_falling_back_needs_a_savepoint(store: SqliteStore) -> None:
    """Without one it is a mistake that is told."""
    async with store.unit() as unit:
        with pytest.raises(StatementFailed, match="savepoint"):
            await unit.rollback_to_savepoint()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05.000000"),  # noqa: DTZ001  # naive, on purpose
        (
            datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            "2026-01-02 01:04:05.000006",
        ),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4, 5), "03:04:05.000000"),
        (Decimal("1.10"), "1.10"),
        (True, "1"),
    ],
)
async def test_dates_and_decimals_are_stored_as_text(store: SqliteStore, value: object, stored: str) -> None:
    """As SQLAlchemy writes them, so that a session reads the same; with a time zone, in UTC."""
    async with store.unit() as unit:
        await run(unit, "UPDATE note SET body = $1", value)
        await unit.statements.execute_many("UPDATE note SET body = $1", [(value,)])
        assert await unit.statements.fetch("SELECT body FROM note", ()) == [{"body": stored}]


@pytest.mark.parametrize("value", [UUID(int=1), "\ud800", object(), [1]])
async def test_what_sqlite_cannot_store_is_refused(store: SqliteStore, value: object) -> None:
    """A value without a place in SQLite fails the statement, and the unit can go on."""
    async with store.unit() as unit:
        with pytest.raises(StatementFailed):
            await run(unit, "UPDATE note SET body = $1", value)
        with pytest.raises(StatementFailed):
            await unit.append([message("\ud800")], [])
        await run(unit, "UPDATE note SET body = 'fine'")
        await unit.commit()

    assert await rows(store, "SELECT body FROM note") == [{"body": "fine"}]


async def test_two_statements_in_one_are_refused(store: SqliteStore) -> None:
    """A call runs one statement."""
    async with store.unit() as unit:
        with pytest.raises(StatementFailed, match="one statement"):
            await run(unit, "SELECT 1; SELECT 2")


async def test_migrations_know_where_a_statement_ends(path: Path) -> None:
    """A semicolon in a trigger, a literal or a comment ends no statement, and a last one may have none."""
    own = {
        "0001_log.sql": """
            CREATE TABLE log (entry TEXT DEFAULT 'a;b'); /* first; */
            CREATE TRIGGER twice AFTER INSERT ON log WHEN new.entry <> 'x;' BEGIN
                INSERT INTO log VALUES ('x;'); -- inside;
                INSERT INTO log VALUES ('x;');
            END;
            INSERT INTO log DEFAULT VALUES
        """
    }
    store = SqliteStore(str(path), SystemClock())
    await store.migrate(own)
    await store.start()
    try:
        assert await rows(store, "SELECT entry FROM log") == [{"entry": "a;b"}, {"entry": "x;"}, {"entry": "x;"}]
    finally:
        await store.stop()


async def test_a_table_can_be_made_anew_without_emptying_its_children(path: Path) -> None:
    """Migrations run without foreign keys' actions, but may leave no orphan; afterwards the keys hold."""
    family = """
        CREATE TABLE parent (id TEXT PRIMARY KEY);
        CREATE TABLE child (id TEXT PRIMARY KEY, parent TEXT REFERENCES parent (id) ON DELETE CASCADE);
        INSERT INTO parent VALUES ('p');
        INSERT INTO child VALUES ('c', 'p');
    """
    anew = """
        CREATE TABLE parent_anew (id TEXT PRIMARY KEY, name TEXT);
        INSERT INTO parent_anew (id) SELECT id FROM parent;
        DROP TABLE parent;
        ALTER TABLE parent_anew RENAME TO parent;
    """
    store = SqliteStore(str(path), SystemClock())
    await store.migrate({"0001_family.sql": family, "0002_anew.sql": anew})
    with pytest.raises(StatementFailed, match=r"(?s)0003_orphan.*'child'.*'parent'"):
        await store.migrate({"0001_family.sql": family, "0002_anew.sql": anew, "0003_orphan.sql": "DELETE FROM parent"})
    await store.start()
    try:
        assert await rows(store, "SELECT id FROM child") == [{"id": "c"}]
        async with store.unit() as unit:
            with pytest.raises(StatementFailed, match="FOREIGN KEY"):
                await run(unit, "INSERT INTO child VALUES ('d', 'nobody')")
    finally:
        await store.stop()


async def test_a_migration_cannot_end_its_transaction(path: Path) -> None:
    """A COMMIT inside a migration would break it in two, so it is refused."""
    store = SqliteStore(str(path), SystemClock())
    with pytest.raises(StatementFailed, match="COMMIT"):
        await store.migrate({"0001_x.sql": "CREATE TABLE x (id TEXT); COMMIT; CREATE TABLE y (id TEXT)"})

    assert "0001_x.sql" in await store.migrate({"0001_x.sql": "CREATE TABLE x (id TEXT)"})


async def test_a_missing_file_is_not_made_by_starting(path: Path) -> None:
    """Only `migrate` makes a database; `start` says to migrate first."""
    with pytest.raises(SchemaMismatch, match="torpor migrate"):
        await SqliteStore(str(path), SystemClock()).start()

    assert list(path.parent.glob("store*")) == []


async def test_what_is_no_database_is_unavailable(path: Path) -> None:
    """A file of something else, or a folder, is told with its path."""
    text = "This is no database, but a text that is long enough to be read as one."
    path.write_text(text * 20)  # noqa: ASYNC240  # a test may wait for its disk
    for place in (path, path.parent):
        store = SqliteStore(str(place), SystemClock())
        for call in (store.start, lambda store=store: store.migrate({})):
            with pytest.raises(StoreUnavailable, match=place.name):
                await call()


def test_options_are_checked() -> None:
    """An unknown level of durability is refused with those that there are."""
    with pytest.raises(ConfigurationError, match="EXTRA, FULL, NORMAL"):
        SqliteOptions(synchronous="OFF")
