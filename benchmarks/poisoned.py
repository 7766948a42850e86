"""One poisoned key among 1,000 at full load: it fails at every attempt, at once and timed; how fast are the others?

The same messages with nothing failing, and with all those of one key failing: the clock stops once every other
message has had its effect.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks import torpor_ways
from benchmarks.report import Bar, Report, table
from benchmarks.runs import Runs, note
from benchmarks.scale import FULL
from benchmarks.servers import running
from benchmarks.work import KEYS, fill_stream, medians, run_async

if TYPE_CHECKING:
    from benchmarks.scale import Scale

MESSAGES = 10_000
WITHOUT = "without"
WITH = "with one poisoned key"


def run(scale: Scale = FULL) -> Report:
    """The medians, and the bar."""
    with running() as servers:
        runs = Runs(servers, scale)
        run_async(fill_stream(servers.nats.url, scale.of(MESSAGES)))
        ways = {
            WITHOUT: runs.way(MESSAGES, partial(torpor_ways.others, is_poisoned=False)),
            WITH: runs.way(MESSAGES, partial(torpor_ways.others, is_poisoned=True)),
        }
        rates = medians(ways, scale.rounds, note)
    head = (f"medians of {scale.rounds}, {MESSAGES} messages, {KEYS} keys", "other keys' effects/s")
    text = table(head, [(name, f"{rate:,.0f}") for name, rate in rates.items()])
    return Report(text, [Bar("the others' throughput ÷ without", rates[WITH] / rates[WITHOUT], least=0.9)])
