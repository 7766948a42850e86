"""Holds the evidence of a run against the ledger: which promises were kept (DESIGN.md, section 11)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.chaos import weather
from tests.chaos.askers import GONE
from tests.chaos.script import is_poisoned, is_reminded
from tests.chaos.witness import FENCING
from torpor.testing.simulation.ledger import (
    ACCOUNTED,
    BOUNDED,
    COMMIT_ORDER,
    FENCED,
    NEVER_BACK,
    NEVER_STUCK,
    ONE_EFFECT,
    PARKED_FIRST,
    PUBLISHED,
    Violation,
)
from torpor.testing.simulation.passing import ANSWERED_ONCE, ENDED, FLEETING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.evidence import Effect, Evidence
    from tests.chaos.ledger import Ledger

_UNDONE = frozenset({"nobody", "undecodable", "failed"})  # ends that promise that there is no effect
_ENDS = _UNDONE | {"answered", "unavailable", "TimedOut", "BrokerUnavailable", "NotRunning", GONE}
BASE_LINE = "13: tables, connections and memory come back to their base line"
RELAY_BATCH = 500
ORDERED = ("sink.count", "tail.check")
_INTERRUPTIONS = (
    *(*weather.KILLS, *weather.FREEZES, *weather.CUTS, *weather.BROKER, weather.DATABASE, weather.STOP),
    *weather.PARTITIONS,
)
_TOLD = 5  # examples of each kind

Name = tuple[str, int]  # a message, by key and number


class Verdict:
    """What became of the messages, in numbers, and each broken promise with some examples."""

    def __init__(self, ledger: Ledger, evidence: Evidence, published: Counter[str]) -> None:
        self.ledger = ledger
        self.evidence = evidence
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()  # of violations, all of them
        self.lost = self.doubled = self.reordered = self.stuck = 0
        self.published = published.total()
        self.wire_again = sum(count - 1 for count in published.values())
        self.wire_passed = 0
        self._asked = {(key, n) for key, last in ledger.accepted.items() for n in range(1, last + 1)}
        self._check_acceptance()
        self._check_effects()
        self._check_order()
        self._check_wire()
        self._check_fences()
        self._check_parked()
        self._check_rest()
        self.asked_again = self.glanced_again = 0
        self._check_passing()

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        return not self.counts

    def violate(self, rule: str, text: str) -> None:
        """Notes a broken promise."""
        self.counts[rule] += 1
        if self.counts[rule] <= _TOLD:
            self.violations.append(Violation(rule, text))

    def _check_acceptance(self) -> None:
        sent = {(key, number) for key, number, _ in self.evidence.sent}
        for key, number in sorted(self._asked - sent):
            self.lost += 1
            self.violate(ONE_EFFECT, f"{key}/{number} was answered as accepted, and is not there.")
        for key, number in sorted(sent & self.ledger.regretted):
            self.violate(PUBLISHED, f"{key}/{number} was taken back, and is there.")

    def _check_effects(self) -> None:
        counts: dict[str, Counter[Name]] = defaultdict(Counter)
        for effect in self.evidence.effects:
            counts[effect.handler][effect.key, effect.number] += 1
        reminded = {name for name in self._asked if is_reminded(name[1])}
        left = self._left()
        for handler, wanted in (("sink.count", self._asked), ("tail.check", self._asked), ("tail.remember", reminded)):
            missing = sorted(wanted - counts[handler].keys())
            self.stuck += min(len(missing), left)
            self.lost += max(0, len(missing) - left)
            for key, number in missing:
                self.violate(NEVER_STUCK if left else ONE_EFFECT, f"{key}/{number} has no effect of {handler}.")
            for (key, number), count in counts[handler].items():
                if count > 1 or (key, number) not in wanted:
                    self.doubled += count - 1
                    self.violate(ONE_EFFECT, f"{key}/{number} has {count} effects of {handler}.")

    def _left(self) -> int:
        standing = self.evidence.standing
        return standing.pending + standing.timers + standing.parked + self.evidence.unsettled

    def _check_order(self) -> None:
        latest: dict[tuple[str, str], Effect] = {}
        for effect in self.evidence.effects:
            if effect.handler not in ORDERED:
                continue
            before = latest.get((effect.handler, effect.key))
            if before is not None and before.number > effect.number:
                self.reordered += 1
                told = f"{effect.key}/{effect.number} ({effect.replica}, {effect.at:.3f})"
                late = f"{before.number} ({before.replica}, {before.at:.3f})"
                self.violate(COMMIT_ORDER, f"{effect.handler} handled {told} after {late}.")
            else:
                latest[effect.handler, effect.key] = effect

    def _check_wire(self) -> None:
        first: dict[str, int] = {}
        for index, sighting in enumerate(self.evidence.sightings):
            first.setdefault(sighting.id, index)
        self.wire_passed = len(self.evidence.sightings) - len(first)
        committed: set[str] = set()
        for service, rows in self.evidence.outboxes.items():
            latest: dict[tuple[str, str], int] = {}
            for row in rows:
                committed.add(row.id)
                if row.id not in first:
                    self.violate(PUBLISHED, f"{service} committed {row.id} for {row.topic}, and never published it.")
                    continue
                if first[row.id] < latest.get((row.topic, row.key), 0):
                    told = self.evidence.sightings[first[row.id]]
                    self.violate(COMMIT_ORDER, f"{told.topic} {told.key}/{told.number} was published out of order.")
                latest[row.topic, row.key] = first[row.id]
        for sighting in self.evidence.sightings:
            if sighting.id not in committed:
                told_name = f"{sighting.topic} {sighting.key}/{sighting.number} ({sighting.id})"
                self.violate(PUBLISHED, f"{told_name} is on the wire and was never committed.")
        most = self.ledger.count(*_INTERRUPTIONS) * RELAY_BATCH
        if self.wire_again > most:
            self.violate(BOUNDED, f"{self.wire_again} messages were published again; at most {most} were expected.")

    def _check_fences(self) -> None:
        owners: dict[tuple[str, int], set[str]] = defaultdict(set)
        epochs: dict[tuple[str, str], int] = {}
        for service, lease, epoch, process in self.evidence.takings:
            if epoch < epochs.get((service, lease), 0):
                self.violate(NEVER_BACK, f"{service}: epoch {epoch} of {lease} was given after a later one.")
            epochs[service, lease] = epoch
            if lease in FENCING:
                owners[service, epoch].add(process)
        for service, epoch, process, is_back in self.evidence.movings:
            if is_back:
                self.violate(NEVER_BACK, f"{process} moved a cursor of {service} back.")
            if process not in owners[service, epoch]:
                told = ", ".join(owners[service, epoch])
                self.violate(FENCED, f"{process} moved a cursor of {service} while {told} had epoch {epoch}.")

    def _check_parked(self) -> None:
        """No number of a key is handled from its poisoned one on, before somebody has mended the key."""
        first: dict[str, int] = {}
        for key, number in sorted(self._asked):
            if key not in first and is_poisoned(key, number):
                first[key] = number
        everything = self.ledger.mended.get("*", float("inf"))
        for effect in self.evidence.effects:
            if effect.handler != "tail.check" or effect.number < first.get(effect.key, effect.number + 1):
                continue
            if effect.at < min(everything, self.ledger.mended.get(effect.key, everything)):
                told = f"{effect.key}/{effect.number}"
                self.violate(PARKED_FIRST, f"{told} was handled while {first[effect.key]} was parked before it.")

    def _check_passing(self) -> None:
        """What is not kept: a request ends as it may, and what is known of its effect is so; nothing happens twice."""
        replies, glances = self.evidence.replies, self.evidence.glances
        for (key, number), how in self.ledger.asked.items():
            count = replies[key, number]
            if how not in _ENDS:
                self.violate(ENDED, f"{key}/{number} has ended as {how}.")
            if (how == "answered" and not count) or (how in _UNDONE and count):
                self.violate(ANSWERED_ONCE, f"{key}/{number} has ended as {how}, with {count} effects.")
        for (key, number), count in replies.items():
            if count > 1:
                self.asked_again += count - 1
                self.violate(ANSWERED_ONCE, f"{key}/{number} has {count} effects.")
        for (key, number), count in glances.items():
            if count > 1 or not replies[key, number]:
                self.glanced_again += count - 1
                self.violate(FLEETING, f"{key}/{number} was heard {count} times, and committed {replies[key, number]}.")

    def _check_rest(self) -> None:
        standing = self.evidence.standing
        if self._left():
            self.violate(NEVER_STUCK, f"Left: {standing}, {self.evidence.unsettled} deliveries.")

    def account(self, standings: Iterable[tuple[str, int, int]]) -> None:
        """Checks sums that must agree: what they are about, what was expected, what there was."""
        for what, expected, seen in standings:
            if expected != seen:
                self.violate(ACCOUNTED, f"{what}: {seen} of {expected}.")
