"""One poisoned key among 1,000 at full load: it fails at every attempt, at once and timed; how fast are the others?

The same messages with nothing failing, and with all those of one key failing: the clock stops once every other
message has had its effect. Rounds of the two are neighbours, in turn the one and the other first, and the ratio is the
median of theirs: a noisy moment falls on both.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import torpor_ways
from benchmarks.report import Bar, Report, table
from benchmarks.runs import Runs, note
from benchmarks.scale import FULL
from benchmarks.servers import running
from benchmarks.work import KEYS, fill_stream, neighbours, run_async

if TYPE_CHECKING:
    from benchmarks.scale import Scale

ROUNDS = 15
MESSAGES = 10_000
WITHOUT = "without"
WITH = "with one poisoned key"


def run(scale: Scale = FULL) -> Report:
    """The medians, and the bar."""
    rounds = max(1, ROUNDS * scale.rounds // FULL.rounds)
    with running() as servers:
        runs = Runs(servers, scale)
        run_async(fill_stream(servers.nats.url, scale.of(MESSAGES)))
        without = runs.way(MESSAGES, partial(torpor_ways.others, is_poisoned=False))
        poisoned = runs.way(MESSAGES, partial(torpor_ways.others, is_poisoned=True))
        run_async(without())  # warms up
        rates = neighbours({WITHOUT: without, WITH: poisoned}, rounds, note)
    head = (f"medians of {rounds}, {MESSAGES} messages, {KEYS} keys", "other keys' effects/s")
    text = table(head, [(name, f"{median(taken):,.0f}") for name, taken in rates.items()])
    ratio = median(other / alone for alone, other in zip(rates[WITHOUT], rates[WITH], strict=True))
    return Report(text, [Bar("the others' throughput ÷ without", ratio, least=0.9)])
