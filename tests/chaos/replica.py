"""One process of a service, started through the command line as in production, and what is done to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.wire import Gate
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.broker import Door

ROOT = Path(__file__).resolve().parents[2]
_UNWANTED = ("TORPOR_", "CHAOS_", "PYTHONDONTWRITEBYTECODE")
_POLL = 0.02
_UNPREPARED = (-signal.SIGTERM, 128 + signal.SIGTERM)  # before there is a handler, and at the door
_PATIENCE = 30.0  # for a clean stop on a silent network: 4 s to drain, 5 for a rollback, 10 for the duties, goodbyes


class Replica:
    """A place for one process after another. A gate stands before its database, and one before its broker."""

    def __init__(self, name: str, service: str, *, folder: Path, database_port: int, door: Door) -> None:
        self.name = name
        self.service = service
        self.port = free_port()
        self.gate = Gate(database_port, lambda: self.incarnation)
        self.way = Gate(door.target, lambda: self.incarnation, port=door.front)
        self.log = folder / f"{name}.log"
        self.lives = 0
        self.is_frozen = False
        self.is_stopping = False
        self.is_expected_to_run = False
        self.deaths: list[str] = []  # those that nobody caused
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    @property
    def incarnation(self) -> str:
        """The process that runs now, among all that this place has seen."""
        return f"{self.name}/{self.lives}"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def memory(self) -> int:
        """How many KiB its process has in memory."""
        pid = self._process.pid if self._process is not None else 0
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)

    def equip(self, environment: Mapping[str, str]) -> None:
        """Says what its processes find in their environment."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)}
        more = {"TORPOR_HTTP_PORT": str(self.port), "CHAOS_REPLICA": self.name}
        self._environment = {**ours, **environment, **more}

    def start(self) -> None:
        """Starts a process, unless one runs."""
        if self.is_running:
            return
        self.lives += 1
        self.is_frozen = False
        with self.log.open("ab") as log:
            log.write(f"--- {time.time():.3f} {self.incarnation} starts\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "torpor.cli", "run", f"tests.chaos.services:{self.service}"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is the run's to handle
            )
        self.is_expected_to_run = True

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self.is_expected_to_run = False
        if self._process is not None and self.is_running:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> str | None:
        """SIGTERM, and waits for the drain; tells how it ended when that was not well."""
        self.is_expected_to_run = False
        process = self._process
        if process is None:
            return None
        self.is_stopping = True
        try:
            return await self._end(process)
        finally:
            self.is_stopping = False

    async def _end(self, process: subprocess.Popen[bytes]) -> str | None:
        process.terminate()
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110  # a process tells no event
            await asyncio.sleep(_POLL)
        if process.poll() is None:
            process.kill()
            process.wait()
            return f"did not end within {_PATIENCE:g} s"
        if process.returncode in _UNPREPARED and not self._has_come_up():  # it had nothing to drain yet
            return None
        is_well = process.returncode in (0, -signal.SIGKILL)  # another fault may have been quicker
        return None if is_well else f"ended with {process.returncode}"

    def freeze(self) -> None:
        """SIGSTOP."""
        self.is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.is_frozen = False
        self._signal(signal.SIGCONT)

    def watch(self) -> None:
        """Notes an end that nobody caused, and starts the next process."""
        if self.is_expected_to_run and not self.is_running and self._process is not None:
            self.deaths.append(f"{self.incarnation} ended by itself with {self._process.returncode}; see {self.log}")
            self.start()

    def _has_come_up(self) -> bool:
        return " is up" in self.log.read_text(errors="replace").rpartition(f"{self.incarnation} starts")[2]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.is_running:
            self._process.send_signal(number)
