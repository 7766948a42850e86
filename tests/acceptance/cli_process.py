"""The `torpor` command as a user runs it: a process in a folder, with its output and its children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TORPOR = Path(sys.executable).with_name("torpor")
DEADLINE = 30.0
_UNWANTED = ("TORPOR_", "PYTHONDONTWRITEBYTECODE", "FORCE_COLOR")


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Command:
    """One run of `torpor`."""

    def __init__(self, folder: Path, *words: str, port: int = 0, environ: Mapping[str, str] | None = None) -> None:
        self.port = port
        self._output = folder / f"output-{time.monotonic_ns()}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [TORPOR, *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**clean_environment(), **(environ or {})},
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(errors="replace")

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> Answer | None:
        """The answer of its HTTP server, or None when there is none."""
        content = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                return Answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())
        except OSError:
            return None

    def says(self, path: str, status: int) -> bool:
        """Whether a path is answered with a status."""
        answer = self.ask(path)
        return answer is not None and answer.status == status

    def await_fact(self, fact: Callable[[], bool], what: str) -> None:
        """Returns once a fact holds; fails with the output at the deadline, or when the command has ended."""
        eventually(lambda: fact() or self.process.poll() is not None, lambda: f"{what}; {self.output}")
        if not fact():
            pytest.fail(f"the command ended with {self.process.poll()} before: {what}; {self.output}")

    def await_ready(self) -> None:
        """Returns once it is ready."""
        self.await_fact(lambda: self.says("/-/ready", 200), "ready")

    def await_output(self, text: str, *, times: int = 1) -> None:
        """Returns once it has printed a text so often."""
        self.await_fact(lambda: self.output.count(text) >= times, f"printed {text!r}")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the command's own process."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Waits for its end; returns the exit code."""
        return self.process.wait(DEADLINE)

    def children(self) -> list[int]:
        """The processes below it, at any depth."""
        parents = _parents()
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def kill(self) -> None:
        """Leaves nothing behind."""
        victims = [*self.children(), self.process.pid] if self.process.poll() is None else []
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(DEADLINE)


def run(folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `torpor` to its end."""
    env = {**clean_environment(), **(environ or {})}
    command = [str(TORPOR), *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False)


def clean_environment() -> dict[str, str]:
    """The environment of this process without what would change a run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)}


def eventually(fact: Callable[[], bool], told: Callable[[], str]) -> None:
    """Returns once a fact holds; fails with what is told when the deadline has passed."""
    deadline = time.monotonic() + DEADLINE
    while not fact():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE:g} s: {told()}")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found
