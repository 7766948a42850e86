"""What `import torpor` costs beside `import fastapi`: fresh interpreters, in turn, medians.

The front door of Torpor is lazy, so the second row is the honest one: what a module that declares an event loads.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import Report
from benchmarks.scale import FULL

if TYPE_CHECKING:
    from benchmarks.scale import Scale

ROUNDS = 11
NOTHING = "pass"
PEER = "import fastapi"
STATEMENTS = (NOTHING, "import torpor", "import torpor.contract.event", "import pydantic", PEER)


class Sample(NamedTuple):
    """One start of an interpreter, in milliseconds."""

    wall: float
    processor: float


def start(statement: str) -> Sample:
    """Runs a statement in a fresh interpreter, and waits for it."""
    began, used = time.perf_counter(), processor_seconds()
    subprocess.run([sys.executable, "-I", "-c", statement], check=True)
    return Sample((time.perf_counter() - began) * 1000, (processor_seconds() - used) * 1000)


def processor_seconds() -> float:
    """What the children so far have used. `os.times` would count in steps of 10 ms."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def modules(statement: str) -> int:
    """How many modules an interpreter holds after a statement."""
    program = f"import sys\n{statement}\nprint(len(sys.modules))"
    return int(subprocess.check_output([sys.executable, "-I", "-c", program]))


def run(scale: Scale = FULL) -> Report:
    """Interleaves the statements, so that a noisy moment falls on all of them."""
    for statement in STATEMENTS:
        start(statement)  # writes the bytecode, warms the file cache
    samples: dict[str, list[Sample]] = {statement: [] for statement in STATEMENTS}
    for _ in range(scale.of(ROUNDS, 1)):
        for statement in STATEMENTS:
            samples[statement].append(start(statement))
    walls = {statement: median(sample.wall for sample in taken) for statement, taken in samples.items()}
    cpus = {statement: median(sample.processor for sample in taken) for statement, taken in samples.items()}
    bare, peer = walls[NOTHING], walls[PEER] - walls[NOTHING]
    rows = [
        f"| `{statement}` | {walls[statement]:.1f} | {cpus[statement]:.0f} | {modules(statement) - modules(NOTHING)} "
        f"| {(walls[statement] - bare) / peer:.2f} |"
        for statement in STATEMENTS
    ]
    head = [
        f"| medians of {ROUNDS} | wall ms | CPU ms | modules added | wall added ÷ FastAPI's |",
        "|---|---:|---:|---:|---:|",
    ]
    return Report("\n".join([*head, *rows]))
