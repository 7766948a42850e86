"""`torpor run`: settings from the environment alone, and a drain on SIGTERM."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli_process import TORPOR, Answer, Command, run
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE = """
import asyncio
import logging
from pathlib import Path

from torpor import Event, Service, Tx

class Said(Event, topic="slow.said"):
    text: str

slow = Service("slow", migrations="migrations", public=True)

@slow.post("/slow")
async def answer(tx: Tx) -> str:
    logging.getLogger("torpor.slow").info("begun")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    await tx.execute("INSERT INTO word (text) VALUES ($1)", "late")
    return "done"

@slow.get("/words")
async def words(tx: Tx) -> int:
    return len(await tx.fetch("SELECT text FROM word"))

@slow.on(Said)
async def listen(event: Said, tx: Tx) -> None: ...
"""
TARGET = "slow.service:slow"

pytestmark = pytest.mark.skipif(not TORPOR.exists(), reason="the torpor command is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the package of one service."""
    (tmp_path / "slow" / "migrations").mkdir(parents=True)
    (tmp_path / "slow" / "service.py").write_text(SERVICE)
    (tmp_path / "slow" / "migrations" / "0001_word.sql").write_text("CREATE TABLE word (text TEXT NOT NULL);\n")
    return tmp_path


@pytest.fixture
def environ(folder: Path) -> dict[str, str]:
    """A complete environment: a broker in memory and a database in the folder."""
    return {"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": f"sqlite:///{folder}/{{service}}.db"}


@pytest.fixture
def service(folder: Path, environ: dict[str, str]) -> Iterator[Command]:
    """`torpor migrate` and then `torpor run`, ready."""
    migrated = run(folder, "migrate", TARGET, environ=environ)
    assert "0001_word.sql" in migrated.stdout, migrated.stderr
    port = free_port()
    command = Command(folder, "run", TARGET, "--port", str(port), port=port, environ=environ)
    try:
        command.await_ready()
        yield command
    finally:
        command.kill()


class SlowRequest(threading.Thread):
    """A request that the service answers once the file `go` is there."""

    def __init__(self, command: Command) -> None:
        super().__init__()
        self._command = command
        self.answer: Answer | None = None

    def run(self) -> None:
        """Sends it."""
        self.answer = self._command.ask("/slow", {})


def test_what_is_missing_is_told_together(folder: Path) -> None:
    """Broker and database are both named, the exit code is 2, and nothing embedded is started."""
    ended = run(folder, "run", TARGET)
    assert ended.returncode == 2
    assert "TORPOR_BROKER_URL" in ended.stderr
    assert "TORPOR_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (folder / ".torpor").exists()


def test_a_route_that_does_not_say_who_may_call_it_is_not_served(folder: Path, environ: dict[str, str]) -> None:
    """Without auth= and public= nothing is opened, and all such routes are named."""
    (folder / "slow" / "service.py").write_text(SERVICE.replace(", public=True", ""))
    ended = run(folder, "run", TARGET, environ=environ)
    assert ended.returncode == 2
    assert "answers POST /slow, and does not say who may call it" in ended.stderr
    assert "answers GET /words" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_migration_that_was_not_applied_is_told(folder: Path, environ: dict[str, str]) -> None:
    """`torpor run` does not migrate: it says what to do, and is not ready."""
    port = free_port()
    command = Command(folder, "run", TARGET, "--port", str(port), port=port, environ=environ)
    try:
        command.await_output("torpor migrate")
        command.await_fact(lambda: command.says("/-/ready", 503), "not ready")
    finally:
        command.kill()


def test_logs_are_json(service: Command) -> None:
    """Each line is an object with time, level, logger and message."""
    service.await_output("is up")
    lines = [json.loads(line) for line in service.output.splitlines()]
    assert lines
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "slow" in {line.get("service") for line in lines}


def test_sigterm_drains(service: Command, folder: Path, environ: dict[str, str]) -> None:
    """A request under way is answered and its effect is kept; readiness is gone at once; the exit code is 0."""
    request = SlowRequest(service)
    request.start()
    service.await_output("begun")
    service.signal(signal.SIGTERM)
    service.await_fact(lambda: not service.says("/-/ready", 200), "readiness is gone")
    assert service.process.poll() is None
    (folder / "go").touch()
    request.join()
    assert service.end() == 0, service.output
    assert request.answer is not None
    assert (request.answer.status, request.answer.json) == (200, "done")
    again = Command(folder, "run", TARGET, "--port", str(service.port), port=service.port, environ=environ)
    try:
        again.await_ready()
        words = again.ask("/words")
        assert words is not None
        assert words.json == 1
    finally:
        again.kill()


def test_a_second_signal_ends_it_at_once(service: Command) -> None:
    """Who does not want to wait for the drain sends another."""
    request = SlowRequest(service)
    request.start()
    service.await_output("begun")
    service.signal(signal.SIGTERM)
    service.await_fact(lambda: not service.says("/-/ready", 200), "readiness is gone")
    service.signal(signal.SIGTERM)
    assert service.end() == 128 + signal.SIGTERM
    request.join()
