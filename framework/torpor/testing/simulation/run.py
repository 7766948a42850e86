"""Runs seeds: one with its trace, or many over the machine's cores."""

from __future__ import annotations

import logging
import random
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

from torpor.kernel.errors import NeverSettled
from torpor.testing.simulation.ledger import NEVER_STUCK, Violation
from torpor.testing.simulation.life import Life
from torpor.testing.simulation.weather import Trace
from torpor.testing.simulation.world import Parts, World

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 25
_LONGEST_LIFE = 900.0  # virtual seconds


class Report:
    """What became of one seed."""

    __slots__ = ("effects", "fingerprint", "interruptions", "seed", "steps", "trace", "violations")

    def __init__(self, seed: int, world: World) -> None:
        self.seed = seed
        self.violations = tuple(world.ledger.violations)
        self.effects = sum(map(len, world.ledger.done.values()))
        self.interruptions = sum(world.ledger.interruptions.values())
        self.steps = world.loop.steps
        self.fingerprint = world.trace.fingerprint  # the same for a seed in each run
        self.trace = tuple(world.trace.lines)

    def __repr__(self) -> str:
        state = "; ".join(map(repr, self.violations)) or "no violation"
        return f"<Report seed={self.seed} effects={self.effects} interruptions={self.interruptions} {state}>"


def simulate(seed: int, *, parts: Parts | None = None, is_traced: bool = False) -> Report:
    """Lives one seed to its end, and tells which invariants broke. The same seed does the same each time."""
    trace = Trace(is_kept=is_traced)
    with _logs(trace), _chance(seed):
        world = World(seed, parts=parts or Parts(), trace=trace)
        try:
            world.loop.run(Life(world).run(), world.process, seconds=_LONGEST_LIFE)
        except NeverSettled as error:
            world.ledger.violations.append(Violation(NEVER_STUCK, str(error)))
        return Report(seed, world)


def simulate_all(seeds: range, *, workers: int = 2) -> Iterator[Report]:
    """Lives many seeds over several processes; yields the reports as they come, in order of their seeds."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(simulate, seeds, chunksize=_CHUNK)


@contextmanager
def _logs(trace: Trace) -> Iterator[None]:
    """Takes the services' log lines into the trace, or nowhere."""
    logger = logging.getLogger("torpor")
    level, propagate, handler = logger.level, logger.propagate, _Lines(trace)
    logger.setLevel(logging.INFO if trace.is_kept else logging.CRITICAL + 1)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


@contextmanager
def _chance(seed: int) -> Iterator[None]:
    """Draws what the runtime leaves to chance, the jitter of retries, from the seed."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


class _Lines(logging.Handler):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.tell(record.name.removeprefix("torpor."), f"logs: {record.getMessage()}")
