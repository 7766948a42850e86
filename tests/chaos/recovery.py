"""How long it took until work went on after a fault."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos import weather

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.chaos.evidence import Evidence
    from tests.chaos.ledger import Ledger


class Recovery(NamedTuple):
    """Seconds from the faults of a kind to the first work after them."""

    what: str
    times: int
    median: float
    worst: float


class Delay(NamedTuple):
    """Seconds from the client's acceptance to a handler's effect."""

    handler: str
    median: float
    most: float  # of 99 in 100
    worst: float


def recoveries(ledger: Ledger, evidence: Evidence) -> list[Recovery]:
    """The times that a reader asks for first."""
    effects = sorted(effect.at for effect in evidence.effects)
    handled = {s: sorted(e.at for e in evidence.effects if e.handler.startswith(s)) for s in ("sink", "tail")}
    sent = sorted(at for _, _, at in evidence.sent)
    published = {
        "source": sorted(s.at for s in evidence.sightings if s.topic == "chaos.placed"),
        "sink": sorted(s.at for s in evidence.sightings if s.topic != "chaos.placed"),
    }
    wire = sorted(sighting.at for sighting in evidence.sightings)
    commits = sorted([*effects, *sent])
    killed = [(at, kind, whom.partition("-")[0]) for at, kind, whom in ledger.faults]
    consumers = [(at, handled[who]) for at, kind, who in killed if kind == weather.KILL_CONSUMER]
    producers = [(at, sent) for at, kind, _ in killed if kind == weather.KILL_PRODUCER]
    relays = [(at, published[who]) for at, kind, who in killed if kind == weather.KILL_RELAY]
    frozen = [(at, handled[who]) for at, kind, who in killed if kind == weather.FREEZE_CONSUMER]
    return [
        _measured("kill of a consumer → next effect of its service", consumers),
        _measured("kill of a producer → next message accepted", producers),
        _measured("kill of a relay's holder → next message of its service on the wire", relays),
        _measured("freeze of a consumer → next effect of its service", frozen),
        *[
            _measured(
                f"end of a partition from the {what} → next effect of its service", _healed(ledger, what, handled)
            )
            for what in ("broker", "database")
        ],
        _measured("database there again → next commit", [(at, commits) for at, w in ledger.ends if w == "postgres"]),
        _measured(
            "broker there again → next message on the wire", [(at, wire) for at, w in ledger.ends if w == "broker"]
        ),
        _measured(
            "broker there again → first effect of a message published since, behind the backlog",
            [(at, _effects_of_younger(evidence, at)) for at, w in ledger.ends if w == "broker"],
        ),
    ]


def _healed(ledger: Ledger, what: str, handled: Mapping[str, list[float]]) -> list[tuple[float, list[float]]]:
    ends = [(at, told.split()) for at, told in ledger.ends]
    return [(at, handled[words[1]]) for at, words in ends if words[0] == f"{what}-line" and words[1] in handled]


def delays(evidence: Evidence) -> list[Delay]:
    """How old messages were when they were handled."""
    sent = {(key, number): at for key, number, at in evidence.sent}
    found = []
    for handler in ("sink.count", "tail.check"):
        ages = sorted(
            e.at - sent[e.key, e.number] for e in evidence.effects if e.handler == handler and (e.key, e.number) in sent
        )
        if ages:
            found.append(Delay(handler, median(ages), ages[int(len(ages) * 0.99)], ages[-1]))
    return found


def longest_silence(moments: Sequence[float]) -> float:
    """The longest time in which nothing was done."""
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def _effects_of_younger(evidence: Evidence, since: float) -> list[float]:
    """When the sink has handled messages that were published after a moment."""
    young = {(s.key, s.number) for s in evidence.sightings if s.topic == "chaos.placed" and s.at > since}
    return sorted(e.at for e in evidence.effects if e.handler == "sink.count" and (e.key, e.number) in young)


def _measured(what: str, faults: Iterable[tuple[float, list[float]]]) -> Recovery:
    waits = []
    for at, moments in faults:
        index = bisect_right(moments, at)
        if index < len(moments):  # else nothing was left to do
            waits.append(moments[index] - at)
    return Recovery(what, len(waits), median(waits) if waits else 0.0, max(waits, default=0.0))
