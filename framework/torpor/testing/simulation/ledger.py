"""What a run has done, seen from outside the services, and the invariants that it must keep (DESIGN.md, section 11)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from torpor.testing.simulation.passing import Passing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from torpor.kernel.message import Message, ParkedMessage

FIRED = "a timer's message is committed once, for each effect that set it"
ONE_EFFECT = "1: each accepted message has exactly one effect for each handler"
PUBLISHED = "2: each committed outbox row is published, and nothing uncommitted is"
COMMIT_ORDER = "3: first deliveries of a key keep commit order"
NEVER_BACK = "4: cursors and epochs never go back"
FENCED = "5: an old epoch writes nothing after a takeover"
ACCOUNTED = "6: backlog + parked + done = sent"
BOUNDED = "7: duplicates on the wire are bounded by what was interrupted"
PARKED_FIRST = "11: a parked key stays behind its first until redriven, then keeps order"
NEVER_STUCK = "a run comes to rest once its faults are over"


class Violation:
    """One broken invariant."""

    __slots__ = ("invariant", "text")

    def __init__(self, invariant: str, text: str) -> None:
        self.invariant = invariant
        self.text = text

    def __repr__(self) -> str:
        return f"({self.invariant}) {self.text}"


class Effect:
    """One handler's committed effect for one message, which its key and number name."""

    __slots__ = ("handler", "key", "number")

    def __init__(self, handler: str, key: str, number: int) -> None:
        self.handler = handler
        self.key = key
        self.number = number


class Ledger:
    """The record of a run. Messages are named by what they say; `topics` are the handlers' own, by name, and those of
    `strict` handle them in the order of the topic."""

    def __init__(self, topics: Mapping[str, str], strict: Collection[str] = ()) -> None:
        self.violations: list[Violation] = []
        self.rows: dict[str, list[Message]] = defaultdict(list)  # by service, in order of commit
        self.done: dict[tuple[str, str], list[str]] = defaultdict(list)  # effects, by handler and key, in order
        self.parked: dict[tuple[str, str], list[str]] = {}  # by binding and key, in order
        self.accepted: list[str] = []  # what a client was told is committed
        self.refused: list[str] = []  # what a client was told is not
        self.wire: list[Message] = []
        self.interruptions: Counter[str] = Counter()  # by service: what may make its relay publish again
        self.passing = Passing(self.violate, answers="stock.answer", hears="bill.glimpse")
        self._topics = topics
        self._strict = strict
        self._committed: set[str] = set()  # ids
        self._epochs: Counter[tuple[str, str]] = Counter()  # by service and lease
        self._cursors: dict[tuple[str, int], int] = {}

    def violate(self, invariant: str, text: str) -> None:
        """Notes a broken invariant."""
        self.violations.append(Violation(invariant, text))

    def committed(
        self, service: str, messages: Iterable[Message], *, effects: Iterable[Effect], lot: Iterable[ParkedMessage]
    ) -> None:
        """A unit was committed. `lot` is the service's whole parking lot after it."""
        for message in messages:
            self._committed.add(message.id)
            self.rows[service].append(message)
        for effect in effects:
            if self.passing.knows(effect.handler):
                self.passing.done(effect.handler, f"{effect.key}/{effect.number}")
                continue
            place, name = self._place(effect.handler, effect.key), self._name(effect)
            waiting = self.parked.get(place, [])
            if waiting and waiting[0] == name:
                waiting.pop(0)
            elif waiting:
                told_parked = ", ".join(waiting)
                self.violate(PARKED_FIRST, f"{effect.handler} handled {name} while parked before it: {told_parked}.")
            self.done[place].append(name)
        self.park(service, lot)

    def park(self, service: str, lot: Iterable[ParkedMessage]) -> None:
        """Notes what a service's parking lot holds now."""
        for place in self.parked:
            if place[0].startswith(service):
                self.parked[place] = []
        for row in lot:
            binding = row.binding if "." in row.binding else f"{service}:{row.binding}"
            self.parked.setdefault(self._place(binding, row.message.key), []).append(told(row.message))

    def sent(self, message: Message) -> None:
        """A message was put on the wire."""
        if message.id not in self._committed:
            self.violate(PUBLISHED, f"{told(message)} was published and never committed.")
        self.wire.append(message)

    def acquired(self, service: str, lease: str, epoch: int) -> None:
        """A duty was given its lease."""
        place = service, lease
        if epoch < self._epochs[place]:
            self.violate(NEVER_BACK, f"{service} was given epoch {epoch} of {lease} after {self._epochs[place]}.")
        self._epochs[place] = max(epoch, self._epochs[place])

    def advanced(self, service: str, positions: Mapping[int, int], epoch: int) -> None:
        """A relay has moved its cursors."""
        latest = self._epochs[service, "keeper"]
        if epoch != latest:
            self.violate(FENCED, f"{service} let epoch {epoch} move cursors after {latest} was given.")
        for shard, position in positions.items():
            self._cursors[service, shard] = max(position, self._cursors.get((service, shard), 0))

    def pending(self, service: str, shard: int, position: int) -> None:
        """A relay was told that this is the first row past its cursor."""
        if position <= self._cursors.get((service, shard), 0):
            self.violate(NEVER_BACK, f"The cursor of {service} is back before {position}.")

    def account(self) -> None:
        """Checks, with the backlog empty, that what was sent is done or parked."""
        held = {name for (binding, _), names in self.parked.items() if ":" in binding for name in names}
        for handler, topic in self._topics.items():
            rows = {told(m) for rows in self.rows.values() for m in rows if m.topic == topic} - held
            done = {name for (by, _), names in self.done.items() if by == handler for name in names}
            parked = {name for (binding, _), names in self.parked.items() if binding == handler for name in names}
            for name in sorted((rows - done - parked) | (done & parked)):
                where = "done and parked" if name in done else "neither done nor parked"
                self.violate(ACCOUNTED, f"{name} is {where} for {handler}.")

    def conclude(self) -> None:
        """Checks what must hold once everything has come to rest, and nothing is parked."""
        self._check_clients()
        for service, rows in self.rows.items():
            self._check_wire(service, rows)
        self._check_timers()
        self._check_effects()
        reserved = {name for (handler, _), names in self.done.items() if handler == "stock.reserve" for name in names}
        self.passing.conclude({name.rpartition(" ")[2] for name in reserved})

    def _check_clients(self) -> None:
        placed = Counter(told(message) for message in self.rows["source"])
        for name in self.accepted:
            if placed[name] != 1:
                self.violate(ONE_EFFECT, f"{name} was accepted, and committed {placed[name]} times.")
        for name in self.refused:
            if placed[name]:
                self.violate(PUBLISHED, f"{name} was refused, and committed.")

    def _check_timers(self) -> None:
        fired = Counter(told(message) for message in self.rows["stock"] if message.topic == "sim.reminded")
        names = [name for (handler, _), names in self.done.items() if handler == "stock.reserve" for name in names]
        for name in dict.fromkeys(names):
            reminder = name.replace("sim.placed", "sim.reminded")
            if fired[reminder] != 1:
                self.violate(FIRED, f"{reminder} was fired {fired[reminder]} times.")

    def _check_wire(self, service: str, rows: Iterable[Message]) -> None:
        copies = Counter(message.id for message in self.wire)
        first: dict[str, int] = {}
        for index, message in enumerate(self.wire):
            first.setdefault(message.id, index)
        latest: dict[tuple[str, str | None], Message] = {}
        for row in rows:
            if row.id not in copies:
                self.violate(PUBLISHED, f"{told(row)} was committed and never published.")
                continue
            if copies[row.id] > 1 + self.interruptions[service]:
                times = f"{copies[row.id]} times, with {self.interruptions[service]} interruptions"
                self.violate(BOUNDED, f"{told(row)} was published {times}.")
            before = latest.get((row.topic, row.key))
            if before is not None and first[before.id] > first[row.id]:
                self.violate(COMMIT_ORDER, f"{told(row)} was published before {told(before)}.")
            latest[row.topic, row.key] = row

    def _check_effects(self) -> None:
        due: dict[tuple[str, str], list[str]] = defaultdict(list)
        rows = [row for rows in self.rows.values() for row in rows]
        first: dict[str, Message] = {}
        for message in self.wire:
            first.setdefault(message.id, message)
        in_topic = list(first.values())
        for handler, topic in self._topics.items():
            for message in in_topic if handler in self._strict else rows:
                if message.topic == topic:
                    due[self._place(handler, message.key)].append(told(message))
        for place in sorted(due.keys() | self.done.keys()):
            self._compare(place[0], self.done.get(place, []), due.get(place, []))

    def _compare(self, handler: str, done: Sequence[str], due: Sequence[str]) -> None:
        counts = Counter(done)
        for name in dict.fromkeys((*due, *done)):
            if name not in due:
                self.violate(ONE_EFFECT, f"{handler} has an effect of {name}, which was never committed.")
            elif counts[name] != 1:
                self.violate(ONE_EFFECT, f"{name} has {counts[name]} effects for {handler}.")
        if sorted(done) == sorted(due) and list(done) != list(due):
            order, wanted = (", ".join(name.rpartition("/")[2] for name in names) for names in (done, due))
            topic = due[0].rpartition("/")[0]
            self.violate(COMMIT_ORDER, f"{handler} handled {topic} in the order {order}; it was committed as {wanted}.")

    def _place(self, handler: str, key: str | None) -> tuple[str, str]:
        """What a handler's messages stand in line with."""
        return handler, "" if handler in self._strict else key or ""

    def _name(self, effect: Effect) -> str:
        return f"{self._topics[effect.handler]} {effect.key}/{effect.number}"


def told(message: Message) -> str:
    """A message by what it says, and not by its id, which is another in each run."""
    text = message.data.decode()
    number = text.rpartition(":")[2].rstrip("}")
    return f"{message.topic} {message.key}/{number}"
