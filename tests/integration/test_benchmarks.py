"""The benchmarks at their smallest, so that they do not rot: what they measure then means nothing."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.chart import chart
from benchmarks.record import Record
from benchmarks.report import TIMES, Bar, Report, bars_table
from benchmarks.scale import Scale
from benchmarks.servers import Unavailable, find_binaries

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Scale(rounds=1, share=0.001)


@pytest.fixture
def servers() -> None:
    """Skips without a PostgreSQL server, unless nothing may be skipped."""
    try:
        find_binaries()
    except Unavailable as missing:
        if os.environ.get("TORPOR_TEST_STRICT") == "1":
            raise
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", ["effects_postgres", "poisoned"])
@pytest.mark.filterwarnings("ignore")  # of the peers
def test_a_benchmark_runs(servers: None, name: str) -> None:
    """A benchmark runs to its end and reports a table and its bars."""
    report = importlib.import_module(f"benchmarks.{name}").run(SMALL)

    assert report.text.startswith("| ")
    assert report.bars
    assert all(bar.figure > 0 for bar in report.bars)


@pytest.mark.filterwarnings("ignore")  # of the peers
def test_the_benchmark_of_nats_runs() -> None:
    """The benchmark of NATS alone needs no database, and reports its tables and bars."""
    report = importlib.import_module("benchmarks.nats").run(SMALL)

    assert report.text.count("| Torpor |") == 2
    assert all(bar.figure > 0 for bar in report.bars)


@pytest.mark.filterwarnings("ignore")  # of the peers
def test_the_benchmark_of_sockets_runs() -> None:
    """The benchmark of WebSockets connects to both servers, and reports its table and bars."""
    report = importlib.import_module("benchmarks.sockets").run(SMALL)

    assert "| Torpor | 200 |" in report.text
    assert all(bar.figure > 0 for bar in report.bars)


def test_the_benchmark_of_pushes_runs() -> None:
    """The benchmark of the push endpoint needs no server but its own two, and reports a table and its bars."""
    report = importlib.import_module("benchmarks.push").run(SMALL)

    assert report.text.startswith("| ")
    assert all(bar.figure > 0 for bar in report.bars)


def test_the_benchmark_of_http_runs() -> None:
    """The benchmark of routes starts both servers, and reports a table and its bars."""
    report = importlib.import_module("benchmarks.http").run(SMALL)

    assert report.text.count("|") > 20
    assert all(bar.figure > 0 for bar in report.bars)


def test_what_was_measured_is_kept_beside_the_rest(tmp_path: Path) -> None:
    """A new result takes the place of the one before, and the other benchmarks' results stay."""
    for name, figure in (("one", 1.0), ("two", 2.0), ("one", 3.0)):
        report = Report(f"text of {name}", [Bar("a bar", figure, least=2.0)])
        Record(tmp_path).keep(name, about="About.", machine="A machine.", report=report)

    told = (tmp_path / "RESULTS.md").read_text()
    assert told.count("## one") == told.count("## two") == 1
    assert f"| a bar | ≥ 2.00{TIMES} | 3.00{TIMES} | yes |" in told
    assert (tmp_path / "results.svg").read_text().startswith("<svg")


def test_a_bar_that_is_missed_is_told() -> None:
    """A figure on the wrong side of its bar is marked in the table and in the chart."""
    missed = [Bar("slow", 1.9, most=1.2, unit="ms"), Bar("few", 0.5, least=1.0)]

    assert bars_table(missed).count("**no**") == 2
    assert chart({"some": missed}).count('class="missed"') == 4
