"""Effects on PostgreSQL and JetStream: consume, inbox, one UPDATE, one event into the outbox, commit, acknowledge.

All ways take the same messages from the same stream, each into a database of its own on the same server, on uvloop.
The clock runs from the first message in hand until the last is acknowledged. Nobody relays meanwhile; with relays:
`effects_relayed`. The loop by hand that the bars are against sends its inbox and its outbox rows as one statement each,
like Torpor; with three awaited statements a message it is slower, and stands beside it. The peers run at the
concurrency that is best for them, found before the first round.

FastStream + SQLAlchemy is there in two ways. With the ORM, as its users write a handler: a session for each message,
rows loaded, changed and added, a commit. And with three Core statements through the session, about as lean as a session
can be. The bars are held against both.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks import faststream_ways, hand_ways, torpor_ways
from benchmarks.report import Bar, Report, table
from benchmarks.runs import Runs, note
from benchmarks.scale import FULL
from benchmarks.servers import Unavailable, running
from benchmarks.work import KEYS, fill_stream, medians, run_async

if TYPE_CHECKING:
    from benchmarks.scale import Scale
    from benchmarks.work import Ready

MESSAGES = 8000
SLOW = 400  # for the ways that take a message at a time
MIDDLING = 2000
PEERS = {
    "orm": "FastStream + SQLAlchemy ORM",
    "table": "FastStream + SQLAlchemy, Core statements through a session",
    "faststream-outbox": "FastStream + faststream-outbox",
    "python-cqrs": "FastStream + python-cqrs' outbox",
}
FASTSTREAM = PEERS["orm"]
CORE = PEERS["table"]
HAND = "by hand, 100 a transaction, 4 connections, inbox and outbox in bulk"
EACH = "by hand, 100 a transaction, 4 connections, three statements a message"
SET_WISE = "by hand, set-wise, 500 a transaction"
AWAITED = "Torpor, `await tx.execute`"
DEFERRED = "Torpor, `tx.write`"
BATCH = "Torpor, `Batch(500)`"
SESSION = "Torpor, `tx.session`"
RETRIED = "Torpor, awaited, 1 % fail once"
PARKED = "Torpor, awaited, 1 % fail always"


def run(scale: Scale = FULL) -> Report:
    """The table of medians, and the bars."""
    with running() as servers:
        runs = Runs(servers, scale)
        run_async(fill_stream(servers.nats.url, scale.of(MESSAGES)))
        ways, missing = _ways(runs)
        rates = medians(ways, scale.rounds, note)
    rows = [
        (
            name,
            f"{rate:,.0f}",
            f"{rate / rates[FASTSTREAM]:.1f}",
            f"{rate / rates[CORE]:.1f}",
            f"{rate / rates[HAND]:.2f}",
        )
        for name, rate in rates.items()
    ]
    head = (
        f"medians of {scale.rounds}; {scale.of(MESSAGES)} messages, {KEYS} keys",
        "effects/s",
        "÷ FastStream, ORM",
        "÷ FastStream, Core",
        "÷ by hand",
    )
    text = "\n".join(
        [
            table(head, rows),
            "",
            *(f"Left out: {reason}." for reason in missing),
            f"PostgreSQL {servers.postgres.version}.",
        ]
    )
    return Report(text, _bars(rates))


def _ways(runs: Runs) -> tuple[dict[str, Ready], list[str]]:
    """Every way, and why some are left out."""
    ways: dict[str, Ready] = {}
    missing = []
    for outbox, name in PEERS.items():
        try:
            best = runs.best(outbox, SLOW // 2)
        except Unavailable as error:
            missing.append(str(error))
        else:
            ways[f"{name}, {best} at once" if name not in {FASTSTREAM, CORE} else name] = runs.way(
                SLOW, partial(faststream_ways.effects, outbox=outbox, at_once=best)
            )
    ways["by hand, a transaction a message, 16 connections"] = runs.way(
        MIDDLING, partial(hand_ways.effects, connections=16, group=1)
    )
    ways[EACH] = runs.way(MESSAGES // 2, partial(hand_ways.effects, connections=4, group=100))
    ways[HAND] = runs.way(MESSAGES, partial(hand_ways.effects, connections=4, group=100, bulk="tables"))
    ways[SET_WISE] = runs.way(MESSAGES, partial(hand_ways.effects, connections=1, group=500, bulk="all"))
    for name, kind in ((AWAITED, "awaited"), (DEFERRED, "deferred"), (BATCH, "batch")):
        ways[name] = runs.way(MESSAGES, partial(torpor_ways.effects, kind=kind))
    ways[SESSION] = runs.way(MIDDLING, partial(torpor_ways.effects, kind="session"))
    for name, is_lasting in ((RETRIED, False), (PARKED, True)):
        ways[name] = runs.way(MESSAGES, partial(torpor_ways.failing, share=0.01, is_lasting=is_lasting))
    return ways, missing


def _bars(rates: dict[str, float]) -> list[Bar]:
    hand = rates[HAND]
    asked = {"awaited": (AWAITED, 12), "deferred": (DEFERRED, 25), "Batch(500)": (BATCH, 40), "session": (SESSION, 2)}
    return [
        *(
            Bar(f"{name} ÷ {peer}", rates[way] / rates[peer], least=wanted)
            for peer in (FASTSTREAM, CORE)
            for name, (way, wanted) in asked.items()
        ),
        Bar("awaited ÷ by hand", rates[AWAITED] / hand, least=0.6),
        Bar("deferred ÷ by hand", rates[DEFERRED] / hand, least=1.0),
        Bar("Batch(500) ÷ by hand, set-wise", rates[BATCH] / rates[SET_WISE], least=0.6),
        Bar("1 % fail once ÷ none", rates[RETRIED] / rates[AWAITED], least=0.5),
        Bar("1 % fail always ÷ none", rates[PARKED] / rates[AWAITED], least=0.5),
    ]
