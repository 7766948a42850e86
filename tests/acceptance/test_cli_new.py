"""`torpor new`: what it writes runs, passes its tests, and passes the checks of this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.cli_process import TORPOR, Command, clean_environment, run
from tests.integration.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not TORPOR.exists(), reason="the torpor command is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which `torpor new ledger` was run."""
    made = run(tmp_path, "new", "ledger")
    assert made.returncode == 0, made.stderr
    assert "torpor dev ledger" in made.stdout
    assert "pytest ledger" in made.stdout
    return tmp_path


def tool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this Python in a folder."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=100, check=False
    )


def test_the_tests_of_a_new_service_pass(folder: Path) -> None:
    """`pytest NAME` passes as it is printed, without any configuration."""
    ended = tool(folder, "pytest", "-q", "-p", "no:cacheprovider", "ledger")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout


def test_a_new_service_runs(folder: Path) -> None:
    """`torpor dev NAME` answers, and a note that is written is counted by the event's handler."""
    port = free_port()
    command = Command(folder, "dev", "ledger", "--port", str(port), port=port)
    try:
        command.await_ready()
        answer = command.ask("/ledger/notes", {"author": "ada", "text": "Hello!"})
        assert answer is not None
        assert answer.status == 202

        def is_counted() -> bool:
            tally = command.ask("/ledger/tally/ada")
            return tally is not None and tally.json == {"author": "ada", "notes": 1}

        command.await_fact(is_counted, "counted")
    finally:
        command.kill()


def test_a_new_service_has_no_mistakes(folder: Path) -> None:
    """`torpor check` finds nothing, and neither do strict types and lint."""
    checked = run(folder, "check", "ledger")
    assert checked.stdout == "1 service, 3 handlers: all good\n", checked.stderr
    typed = tool(folder, "mypy", "--strict", "--cache-dir", "mypy-cache", "ledger")
    assert typed.returncode == 0, typed.stdout
    config = str(ROOT / "pyproject.toml")
    rules = ("--config", config, "--ignore", "I001,INP001,S101,TC,D", "--no-cache")
    linted = tool(folder, "ruff", "check", *rules, "ledger")
    assert linted.returncode == 0, linted.stdout
    formatted = tool(folder, "ruff", "format", "--check", "--no-cache", "--config", config, "ledger")
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
