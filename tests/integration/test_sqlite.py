"""The SQLite store beside other processes: locks, kills, migrations at once, a full disk."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.sqlite.options import SqliteOptions
from torpor.adapters.sqlite.queries import MIGRATIONS as OF_THE_FRAMEWORK
from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import StoreUnavailable
from torpor.testing.conformance.store import OWN, admitted, committed, message, pending_ids
from torpor.testing.conformance.store_sql import rows, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

MIGRATIONS = {**OWN, "0002_row.sql": "INSERT INTO note (id) VALUES ('1')"}

PROGRAM = f"""
import asyncio, json, resource, sqlite3, sys
from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import TorporError
from torpor.testing.conformance.store import admitted, committed, message

MIGRATIONS = {MIGRATIONS!r}
path = sys.argv[1]
store = SqliteStore(path, SystemClock())

def say(text):
    print(text, flush=True)

def hear():
    return sys.stdin.readline()

async def main():
"""

LOCK = """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    hear()
    connection.execute("ROLLBACK")
    say("free")
    hear()
"""

UNIT = """
    await store.start()
    async with store.unit() as unit:
        await unit.admit("b", [message("1")])
        await unit.append([message("1")], [])
        say("appended")
        hear()
        await unit.commit()
        say("committed")
        hear()
"""

LOOP = """
    await store.start()
    number = 0
    while True:
        async with store.unit() as unit:
            await unit.admit("b", [message(str(number))])
            await unit.statements.execute("UPDATE note SET amount = amount + 1", ())
            await unit.append([message(str(number))], [])
            await unit.commit()
        say(number)
        number += 1
"""

MIGRATE = """
    say("ready")
    hear()
    say(json.dumps(await store.migrate(MIGRATIONS)))
"""

ADD = """
    await store.start()
    say("ready")
    hear()
    for _ in range(40):
        async with store.unit() as unit:
            (row,) = await unit.statements.fetch("SELECT amount FROM note", ())
            await unit.statements.execute("UPDATE note SET amount = $1", (row["amount"] + 1,))
            await unit.commit()
    await store.stop()
    say("done")
"""

FULL = """
    await store.start()
    await committed(store, message("before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
    large = message("large")
    large.data = bytes(1_000_000)
    try:
        await committed(store, large)
    except TorporError as error:
        say(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await committed(store, message("after"))
    await store.stop()
    say("done")
"""


class Processes:
    """Other processes on the same file, killed when the test ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: list[subprocess.Popen[str]] = []

    def start(self, program: str) -> subprocess.Popen[str]:
        """Starts a program with the store at hand."""
        process = subprocess.Popen(
            [sys.executable, "-c", f"{PROGRAM}{program}\nasyncio.run(main())", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def end(self) -> None:
        """Kills what still runs."""
        for process in self.running:
            process.kill()
            process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that a process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Lets a process go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "store.db"


@pytest.fixture
def processes(path: Path) -> Iterator[Processes]:
    """A way to start other processes."""
    processes = Processes(path)
    yield processes
    processes.end()


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """A started store that waits little for a lock."""
    store = SqliteStore(str(path), SystemClock(), SqliteOptions(busy_seconds=0.05))
    await store.migrate(MIGRATIONS)
    await store.start()
    yield store
    await store.stop()


async def test_a_locked_database_is_unavailable_and_recovers(store: SqliteStore, processes: Processes) -> None:
    """While another process writes, units fail after the set time and reading goes on; then all works again."""
    await committed(store, message("1"))
    other = processes.start(LOCK)
    assert heard(other) == "locked"

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="another process holds the write lock"):
            await admitted(store, "b", ["1"])
    with pytest.raises(StoreUnavailable):
        await store.leases.acquire("keeper", "one", 60)
    assert await pending_ids(store) == ["1"]
    await store.ping()

    tell(other)
    assert heard(other) == "free"
    assert await admitted(store, "b", ["1"]) == {"1"}
    assert await store.leases.acquire("keeper", "one", 60) == 1


async def test_a_unit_waits_for_another_process(store: SqliteStore, path: Path, processes: Processes) -> None:
    """Within the set time a unit waits for the lock without holding up the loop."""
    patient = SqliteStore(str(path), SystemClock(), SqliteOptions(busy_seconds=20))
    await patient.start()
    other = processes.start(LOCK)
    assert heard(other) == "locked"

    task = asyncio.create_task(admitted(patient, "b", ["1"]))
    assert await pending_ids(store) == []
    assert not task.done()
    tell(other)

    assert await task == {"1"}
    await patient.stop()


async def test_a_process_killed_before_its_commit_leaves_nothing(store: SqliteStore, processes: Processes) -> None:
    """What was admitted and appended is gone, the lock is free, and the id is new again."""
    other = processes.start(UNIT)
    assert heard(other) == "appended"
    other.send_signal(signal.SIGKILL)
    other.wait()

    assert await pending_ids(store) == []
    assert await admitted(store, "b", ["1"]) == {"1"}


async def test_a_process_killed_after_its_commit_leaves_all(store: SqliteStore, processes: Processes) -> None:
    """What was committed is there, however the process ended."""
    other = processes.start(UNIT)
    assert heard(other) == "appended"
    tell(other)
    assert heard(other) == "committed"
    other.send_signal(signal.SIGKILL)
    other.wait()

    assert await pending_ids(store) == ["1"]
    assert await admitted(store, "b", ["1"]) == set()


@pytest.mark.parametrize("lines", [1, 37, 120])
async def test_a_process_killed_at_any_instant_leaves_whole_units(
    store: SqliteStore, processes: Processes, lines: int
) -> None:
    """Inbox, outbox and the handler's rows agree, and nothing that was told as committed is missing."""
    other = processes.start(LOOP)
    told = [int(heard(other)) for _ in range(lines)]
    other.send_signal(signal.SIGKILL)
    other.wait()

    ids = await pending_ids(store)
    assert ids == [str(number) for number in range(len(ids))]
    assert len(ids) >= len(told)
    assert await rows(store, "SELECT amount FROM note") == [{"amount": len(ids)}]
    assert await admitted(store, "b", [*ids, "new"]) == {"new"}


async def test_processes_may_migrate_at_once(path: Path, processes: Processes) -> None:
    """Of several that start on a new database, each migration is applied by one, and none fails."""
    others = [processes.start(MIGRATE) for _ in range(3)]
    assert [heard(other) for other in others] == ["ready"] * 3
    for other in others:
        tell(other)

    applied = [name for other in others for name in json.loads(heard(other))]
    assert sorted(applied) == ["0001_note.sql", "0002_row.sql", *(f"torpor/{name}" for name in OF_THE_FRAMEWORK)]
    store = SqliteStore(str(path), SystemClock())
    await store.start()
    assert await rows(store, "SELECT id FROM note") == [{"id": "1"}]
    await store.stop()


async def test_processes_that_read_and_write_lose_no_update(store: SqliteStore, processes: Processes) -> None:
    """Units of two processes run as if one after the other, even when they read before they write."""
    others = [processes.start(ADD) for _ in range(2)]
    assert [heard(other) for other in others] == ["ready"] * 2
    for other in others:
        tell(other)
    assert [heard(other) for other in others] == ["done"] * 2

    assert await rows(store, "SELECT amount FROM note") == [{"amount": 80}]


async def test_a_disk_that_is_full_at_the_commit(store: SqliteStore, processes: Processes) -> None:
    """When the log cannot be written the commit fails as StoreUnavailable, and once there is room units work again."""
    other = processes.start(FULL)
    assert [heard(other), heard(other)] == ["StoreUnavailable", "done"]

    assert await pending_ids(store) == ["before", "after"]


async def test_a_database_that_is_full_at_a_statement(store: SqliteStore) -> None:
    """A statement that finds no room ends the unit; what it does then is refused, not committed by itself."""
    writer = store._database.writer.connection
    writer.execute("PRAGMA max_page_count = 60")
    large = message("large")
    large.data = bytes(400_000)
    async with store.unit() as unit:
        await run(unit, "UPDATE note SET amount = 7")
        with pytest.raises(StoreUnavailable, match="full"):
            await unit.append([large], [])
        with pytest.raises(StoreUnavailable):
            await run(unit, "UPDATE note SET amount = 8")
        with pytest.raises(StoreUnavailable):
            await unit.commit()
    assert await rows(store, "SELECT amount FROM note") == [{"amount": 0}]

    writer.execute("PRAGMA max_page_count = 100000")
    await committed(store, large)
    assert await pending_ids(store) == ["large"]
