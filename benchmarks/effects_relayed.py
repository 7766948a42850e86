"""Effects with the relay in the same process: until the last event that was committed is confirmed by the broker.

The same work as `effects_postgres`, and each way's own relay beside it: Torpor's, a loop by hand (take, publish in a
window, commit), that of `faststream-outbox`, and the producer of `python-cqrs`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks import faststream_ways, hand_ways, torpor_ways
from benchmarks.effects_postgres import AWAITED, BATCH, DEFERRED, FASTSTREAM, HAND, MESSAGES, PEERS, SLOW
from benchmarks.report import Report, table
from benchmarks.runs import Runs, note
from benchmarks.scale import FULL
from benchmarks.servers import Unavailable, running
from benchmarks.work import KEYS, fill_stream, medians, run_async

if TYPE_CHECKING:
    from benchmarks.scale import Scale
    from benchmarks.work import Ready

_AT_ONCE = 16  # what is best for most of the peers in `effects_postgres`
_ROUNDS = 3


def run(scale: Scale = FULL) -> Report:
    """The table of medians. No bars: they are for the two halves."""
    rounds = min(_ROUNDS, scale.rounds)
    with running() as servers:
        runs = Runs(servers, scale)
        run_async(fill_stream(servers.nats.url, scale.of(MESSAGES)))
        run_async(hand_ways.make_stream(servers.nats.url))
        ways: dict[str, Ready] = {
            name: runs.way(SLOW, partial(faststream_ways.effects, outbox=outbox, at_once=_AT_ONCE, relayed=True))
            for outbox, name in PEERS.items()
        }
        ways[HAND] = runs.way(
            MESSAGES, partial(hand_ways.effects, connections=4, group=100, bulk="tables", relayed=True)
        )
        for name, kind in ((AWAITED, "awaited"), (DEFERRED, "deferred"), (BATCH, "batch")):
            ways[name] = runs.way(MESSAGES, partial(torpor_ways.effects, kind=kind, has_relay=True))
        missing = []
        for name, way in [*ways.items()]:
            try:
                run_async(way())
            except Unavailable as error:
                missing.append(f"Left out: {error}.")
                del ways[name]
        rates = medians(ways, rounds, note)
    head = (f"medians of {rounds}, {KEYS} keys", "effects/s", "÷ FastStream, ORM", "÷ by hand")
    rows = [
        (name, f"{rate:,.0f}", f"{rate / rates[FASTSTREAM]:.1f}", f"{rate / rates[HAND]:.2f}")
        for name, rate in rates.items()
    ]
    return Report("\n".join([table(head, rows), *missing]))
