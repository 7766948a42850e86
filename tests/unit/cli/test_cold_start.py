"""`torpor bench cold-start`, and what it is built of."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torpor.cli import main
from torpor.cli.coldstart import ColdService, Sample, as_table, as_tree, free_port, get, medians, start
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
from torpor import Event, Service, Tx

class Noted(Event, topic="noted", key="id"):
    id: str
    count: int = 1

notes = Service("notes", migrations={"0001_seen.sql": "CREATE TABLE seen (id TEXT PRIMARY KEY);"})

@notes.on(Noted)
async def note(event: Noted, tx: Tx) -> None:
    await tx.execute("INSERT INTO seen VALUES ($1)", event.id)

deaf = Service("deaf")
"""


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a service in a module of a name of its own."""
    (tmp_path / f"{module_of(request)}.py").write_text(SERVICE)
    return tmp_path


def module_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def test_a_service_is_measured(folder: Path, request: pytest.FixtureRequest) -> None:
    """A row with its times, the number of its modules, and what was imported."""
    word = f"{module_of(request)}:notes"
    words = ["bench", "cold-start", word, "--app-dir", str(folder), "--rounds", "2", "--imports"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        [sys.executable, "-m", "torpor.cli", *words], env=environ, capture_output=True, text=True, check=True
    )
    told = ended.stdout
    assert "port open" in told
    row = next(line for line in told.splitlines() if line.startswith(word))
    assert row.count(" ms") == 3
    assert "modules above the interpreter's own" in told
    assert "  pydantic" in told


def test_each_step_comes_after_the_one_before(folder: Path, request: pytest.FixtureRequest) -> None:
    """Port open, ready, first event handled; each start finds the database as it was at first."""
    cold = ColdService(f"{module_of(request)}:notes", folder, folder / "data")
    cold.migrate()
    for _ in range(2):
        sample = cold.start()
        assert 0 < sample.steps[0] <= sample.steps[1] <= sample.steps[2]
        assert sample.processor > 0


def test_a_service_that_no_event_wakes_is_told(folder: Path, request: pytest.FixtureRequest) -> None:
    """There is nothing to measure."""
    with pytest.raises(ConfigurationError, match="listens to no topic"):
        ColdService(f"{module_of(request)}:deaf", folder, folder / "data")


def test_a_server_that_ends_is_told_with_its_last_words() -> None:
    """What it wrote is part of the message."""
    with pytest.raises(ConfigurationError, match="no such luck"):
        start([sys.executable, "-c", "raise SystemExit('no such luck')"], free_port(), {}, get("/"))


def test_medians_are_told_in_milliseconds() -> None:
    """A table has a row for each service."""
    samples = [Sample([n / 1000, n / 500, n / 100], processor=n / 100, resident=30.0) for n in (1, 2, 9)]
    assert medians(samples) == pytest.approx([2.0, 4.0, 20.0, 20.0, 30.0])
    assert "20.0 ms" in as_table({"a:b": samples}).splitlines()[1]


def test_imports_are_told_below_their_importer(folder: Path, request: pytest.FixtureRequest) -> None:
    """The costliest come with what they import, and what is cheap is left out."""
    cold = ColdService(f"{module_of(request)}:notes", folder, folder / "data")
    cold.migrate()
    modules = cold.imports()
    assert {"asyncio", "pydantic", "torpor.assembly"} <= {module.name for module in modules}
    tree = as_tree(modules, 0).splitlines()
    assert len(tree) == len(modules)
    assert len(as_tree(modules, 10**9)) == 0


def test_an_event_that_cannot_be_read_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong `--event` is a usage error; so is a measurement without bytecode."""
    words = ["bench", "cold-start", "a:b", "--event", str(folder / "nowhere.json")]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "nowhere.json" in told or sys.flags.dont_write_bytecode
