"""The promises hold under thousands of seeds, and the simulation does meet what they promise against."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from torpor.testing.simulation import simulate
from torpor.testing.simulation.run import simulate_all

SEEDS = 500


@pytest.mark.parametrize("start", range(0, 4 * SEEDS, SEEDS))
def test_no_seed_breaks_an_invariant(start: int) -> None:
    """Whatever crashes, freezes, is lost, doubled or refused, the invariants hold once it is over."""
    broken = [report for report in simulate_all(range(start, start + SEEDS)) if report.violations]
    assert not broken, "\n".join(f"scripts/simulate --seed {report.seed}: {report}" for report in broken)


def test_the_seeds_meet_every_kind_of_fault() -> None:
    """Each fault that the simulation knows happens within a few seeds, so that a quiet suite is no empty one."""
    seen = "\n".join(line for seed in range(80) for line in simulate(seed, is_traced=True).trace)
    for event in (
        "CRASHES",
        "FREEZES",
        "goes on",
        "has stopped",
        "database is DOWN",
        "broker     is DOWN",
        "commit (applied) is lost",
        "commit (not applied) is lost",
        "arrived) is lost",
        "acknowledge 1 is lost",
        "gives back",
        "rollback",
        "unit claim",
        "is not liked",
        "breaks a rule",
        "fails for",
        "an old epoch is fenced off",
        "never hears of",
        "redrives [",
        "a request is lost on the way",
        "an answer is lost on the way",
        "fleeting events are lost on the way",
        "is sent what it never hears",
        "q0/0: answered",
        ": failed",
        ": nobody",
        ": unavailable",
        ": unknown",
        ": gone",
    ):
        assert event in seen, event


def test_a_seed_does_the_same_each_time() -> None:
    """A seed is replayed step by step, also in another process, whose sets have another order."""
    seeds = range(8)
    here = [simulate(seed).fingerprint for seed in seeds]
    assert [simulate(seed, is_traced=True).fingerprint for seed in seeds] == here
    code = f"from torpor.testing.simulation import simulate; print([simulate(s).fingerprint for s in {seeds!r}])"
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        assert told.stdout.strip() == str(here)


def test_the_command_replays_a_seed_with_its_trace() -> None:
    """`--seed` prints what happened, in order, with its time and its place, and the verdict."""
    told = subprocess.run(
        [sys.executable, "-m", "torpor.testing.simulation", "--seed", "2"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["0.000", "source-1", "starts"]
    assert lines[-1] == "No invariant was broken."
