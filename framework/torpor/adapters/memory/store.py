"""A store in memory, without SQL: the port's contract in plain Python, for simulation and as a reference."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from torpor.kernel.errors import LeaseLost, StatementFailed, StoreUnavailable
from torpor.kernel.message import Message, ParkedMessage
from torpor.kernel.parked import Edit, Inspection
from torpor.ports.leases import Holding
from torpor.ports.outbox import LogEntry, LogState
from torpor.ports.requests import Turn
from torpor.ports.store import StorePromises
from torpor.ports.unit import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from torpor.kernel.message import Timer
    from torpor.kernel.parked import ParkedQuery
    from torpor.ports.clock import Clock
    from torpor.ports.hints import Hints
    from torpor.ports.leases import Leases
    from torpor.ports.outbox import OutboxLog
    from torpor.ports.parking import ParkingLot
    from torpor.ports.requests import Answer, Answers, Requests
    from torpor.ports.statements import Statements
    from torpor.ports.timers import Timers

_SHARD = 0
_KEEPER = "keeper"  # the lease whose epoch guards the cursor


class MemoryStore:
    """One service's tables as Python objects. Units run one after the other.

    `stop` keeps what was committed, so that a simulation can end a service and start another on the same store.
    """

    def __init__(self, clock: Clock) -> None:
        self.promises = StorePromises(is_durable=False, is_transactional=True, runs_sql=False)
        self._tables = _Tables(clock)
        self.outbox: OutboxLog = MemoryOutbox(self._tables)
        self.parking: ParkingLot = MemoryParking(self._tables)
        self.timers: Timers = MemoryTimers(self._tables)
        self.leases: Leases = MemoryLeases(self._tables)
        self.hints: Hints = MemoryHints(self._tables)
        self.answers: Answers = MemoryAnswers(self._tables)

    def __repr__(self) -> str:
        return f"<MemoryStore outbox={len(self._tables.outbox)} parked={len(self._tables.parked)}>"

    async def start(self) -> None:
        self._tables.is_open = True

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Nothing: there are no tables to change, and no SQL to run."""
        return []

    def unit(self) -> MemoryUnit:
        self._tables.check_open()
        return MemoryUnit(self._tables)

    async def ping(self) -> None:
        self._tables.check_open()

    async def stop(self) -> None:
        if self._tables.is_open:
            self._tables.is_open = False
            self._tables.run += 1


class _Tables:
    """What was committed, and the lock of the unit under way."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.is_open = False
        self.run = 0  # counts the stops, so that a unit knows when it has outlived its store
        self.lock = asyncio.Lock()
        self.inbox: dict[tuple[str, str], float] = {}
        self.outbox: dict[int, tuple[Message, float]] = {}
        self.parked: dict[int, ParkedMessage] = {}
        self.edits: dict[int, list[Edit]] = {}
        self.timers: dict[str, Timer] = {}
        self.leases: dict[str, _Lease] = {}
        self.last_position = 0
        self.last_number = 0
        self.cursor = 0
        self.reached = 0  # where the cursor was when a replay moved it back
        self.replayed: str | None = None  # its only topic
        self.listeners: list[Callable[[], None]] = []
        self.answers: dict[tuple[str, str], tuple[Answer, float]] = {}
        self.taken: set[tuple[str, str]] = set()  # the keys of the requests under way

    def check_open(self) -> None:
        if not self.is_open:
            raise StoreUnavailable("The memory store is not open. Await its start() first.")


class _Changes:
    """What a unit has done so far, none of it to be seen by others."""

    __slots__ = ("admitted", "answers", "appended", "cancelled", "claimed", "given", "parked", "timers")

    def __init__(self, before: _Changes | None = None) -> None:
        self.given: int = before.given if before else 0  # new numbers of parked rows
        self.admitted: set[tuple[str, str]] = set(before.admitted) if before else set()
        self.appended: list[Message] = list(before.appended) if before else []
        self.claimed: set[int] = set(before.claimed) if before else set()
        self.parked: dict[int, ParkedMessage] = dict(before.parked) if before else {}
        self.timers: dict[str, Timer] = dict(before.timers) if before else {}
        self.cancelled: set[str] = set(before.cancelled) if before else set()
        self.answers: dict[tuple[str, str], tuple[Answer, float]] = dict(before.answers) if before else {}


class MemoryUnit:
    """One open transaction. It takes the store's lock with its first call."""

    def __init__(self, tables: _Tables) -> None:
        self.statements: Statements = NoStatements()
        self.requests: Requests = MemoryRequests(self)
        self._taken: set[tuple[str, str]] = set()
        self._tables = tables
        self._run = tables.run
        self._changes = _Changes()
        self._mark: _Changes | None = None
        self._has_lock = False
        self._has_ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        changes = await self._begin()
        entries = {(binding, message.id) for message in messages}
        fresh = entries - changes.admitted - self._tables.inbox.keys()
        changes.admitted |= fresh
        wanted = {message.key for message in messages} if queue is None else {queue}
        queues = {row.queue for row in self._parked().values() if row.binding == binding}
        return Admission({id for _, id in fresh}, {one for one in queues & wanted if one is not None})

    async def claim(self, number: int) -> bool:
        changes = await self._begin()
        row = self._parked().get(number)
        if row is None or row.due_at is None:
            return False
        changes.parked.pop(number, None)
        changes.claimed.add(number)
        return True

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        changes = await self._begin()
        changes.appended += messages
        for row in parked:
            if not row.number:
                changes.given += 1
            number = row.number or self._tables.last_number + changes.given
            changes.parked[number] = _numbered(row, number, row.due_at)
        changes.timers.update({timer.name: timer for timer in timers})

    async def cancel(self, timer: str, due_at: float | None = None) -> bool:
        changes = await self._begin()
        known = self._tables.timers.get(timer) if timer not in changes.cancelled else None
        found = changes.timers.get(timer, known)
        if found is None or due_at not in (None, found.due_at):
            return False
        changes.timers.pop(timer, None)
        changes.cancelled.add(timer)
        return True

    async def savepoint(self) -> None:
        self._mark = _Changes(await self._begin())

    async def rollback_to_savepoint(self) -> None:
        await self._begin()
        if self._mark is None:
            raise StatementFailed("The unit has no savepoint to fall back to. Call savepoint() first.")
        self._changes = _Changes(self._mark)

    async def commit(self) -> None:
        changes, tables = await self._begin(), self._tables
        now = tables.clock.time()
        for message in changes.appended:
            tables.last_position += 1
            tables.outbox[tables.last_position] = message, now
        for number in changes.claimed:
            tables.parked.pop(number, None)
        tables.inbox.update(dict.fromkeys(changes.admitted, now))
        tables.parked.update(changes.parked)
        for name in changes.cancelled:
            tables.timers.pop(name, None)
        tables.timers.update(changes.timers)
        tables.answers.update(changes.answers)
        tables.last_number += changes.given
        self._end()

    def _parked(self) -> dict[int, ParkedMessage]:
        """The parked rows as this unit sees them."""
        rows = {number: row for number, row in self._tables.parked.items() if number not in self._changes.claimed}
        return rows | self._changes.parked

    async def take(self, place: str, key: str, now: float) -> Turn:
        """See `MemoryRequests`. It does not wait for the lock when another unit has the key."""
        entry = place, key
        if entry in self._tables.taken - self._taken:
            return Turn(is_taken=True)
        self._tables.taken.add(entry)
        self._taken.add(entry)
        changes = await self._begin()
        answer, until = changes.answers.get(entry) or self._tables.answers.get(entry) or (None, now)
        return Turn(answer if until > now else None)

    async def keep(self, place: str, key: str, answer: Answer, until: float) -> None:
        """See `MemoryRequests`."""
        changes = await self._begin()
        changes.answers[place, key] = answer, until

    async def _begin(self) -> _Changes:
        if self._has_ended:
            raise StatementFailed("The unit has ended. Await all of a handler's work inside the handler.")
        if not self._has_lock:
            await self._tables.lock.acquire()
            self._has_lock = True
        if self._run != self._tables.run:
            raise StoreUnavailable("The memory store has stopped. The unit was rolled back.")
        return self._changes

    def _end(self) -> None:
        self._has_ended = True
        if self._has_lock:
            self._has_lock = False
            self._tables.lock.release()
        self._tables.taken -= self._taken
        self._taken.clear()


class MemoryRequests:
    """The requests of one unit."""

    def __init__(self, unit: MemoryUnit) -> None:
        self._unit = unit

    async def take(self, place: str, key: str, now: float) -> Turn:
        return await self._unit.take(place, key, now)

    async def keep(self, place: str, key: str, answer: Answer, *, until: float) -> None:
        await self._unit.keep(place, key, answer, until)


class NoStatements:
    """Says which store runs SQL."""

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        raise _no_sql()

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        raise _no_sql()

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        raise _no_sql()

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        raise _no_sql()

    def session(self) -> Any:
        raise _no_sql()


class MemoryOutbox:
    """The committed messages to publish."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        tables = self._tables
        tables.check_open()
        if epoch is not None:
            self._check_epoch(epoch)
        reached = max(tables.cursor, (past or {}).get(_SHARD, 0))
        positions = range(reached + 1, tables.last_position + 1)[:limit]
        return [self._entry(position) for position in positions]

    def _check_epoch(self, epoch: int) -> None:
        lease = self._tables.leases.get(_KEEPER)
        if lease is None or lease.epoch != epoch:
            raise LeaseLost(f"The keeper's lease of epoch {epoch} is lost. Acquire it before publishing.")

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        tables = self._tables
        tables.check_open()
        self._check_epoch(epoch)
        if parked:
            await self._park(parked)
        tables.cursor = max(tables.cursor, positions.get(_SHARD, 0))

    async def trim(self, *, published: float, admitted: float) -> None:
        tables = self._tables
        tables.check_open()
        sent = [p for p, (_, at) in tables.outbox.items() if p <= tables.cursor and at < published]
        known = [entry for entry, at in tables.inbox.items() if at < admitted]
        for position in sent:
            del tables.outbox[position]
        for entry in known:
            del tables.inbox[entry]

    async def state(self) -> LogState:
        tables = self._tables
        tables.check_open()
        kept = [at for _, (_, at) in sorted(tables.outbox.items())]
        waiting = [at for position, (_, at) in sorted(tables.outbox.items()) if position > tables.cursor]
        return LogState(
            kept=len(kept),
            kept_since=kept[0] if kept else None,
            waiting=len(waiting),
            waiting_since=waiting[0] if waiting else None,
            cursors={_SHARD: tables.cursor},
        )

    async def published_since(self, since: float, topic: str | None = None) -> Mapping[str, int]:
        tables = self._tables
        first = self._first_since(since)
        topics = (tables.outbox[position][0].topic for position in range(first, tables.cursor + 1))
        return Counter(name for name in topics if topic in (None, name))

    async def replay(self, since: float, topic: str | None = None) -> None:
        tables = self._tables
        first = self._first_since(since)
        tables.leases.setdefault(_KEEPER, _Lease()).epoch += 1
        tables.replayed = topic if tables.cursor >= tables.reached or tables.replayed == topic else None
        tables.reached = max(tables.reached, tables.cursor)
        tables.cursor = min(tables.cursor, first - 1)

    async def _park(self, rows: Sequence[ParkedMessage]) -> None:
        tables = self._tables
        async with tables.lock:  # a unit under way counts its numbers from the last one
            for row in rows:
                tables.last_number += 1
                tables.parked[tables.last_number] = _numbered(row, tables.last_number, row.due_at)

    def _entry(self, position: int) -> LogEntry:
        tables = self._tables
        message = tables.outbox[position][0]
        is_left_out = position <= tables.reached and tables.replayed not in (None, message.topic)
        return LogEntry(_SHARD, position, message, is_left_out=is_left_out)

    def _first_since(self, since: float) -> int:
        """The position of the first published row that is not older; behind the cursor when there is none."""
        tables = self._tables
        tables.check_open()
        found = (p for p, (_, at) in tables.outbox.items() if p <= tables.cursor and at >= since)
        return min(found, default=tables.cursor + 1)


class MemoryParking:
    """The messages set aside."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        seen: set[tuple[str, str]] = set()
        found = []
        for row in self._rows():
            place = None if row.queue is None else (row.binding, row.queue)
            if place not in seen and row.due_at is not None and row.due_at <= now:
                found.append(row)
            if place is not None:
                seen.add(place)
        return found[:limit]

    async def list(
        self, query: ParkedQuery | None = None, *, after: int = 0, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        return [row for row in self._rows() if row.number > after and (query is None or query.fits(row))][:limit]

    async def redrive(self, query: ParkedQuery, at: float) -> int:
        self._tables.check_open()
        async with self._tables.lock:
            chosen = [row for row in self._rows() if query.fits(row) and row.due_at != 0]
            for row in chosen:
                self._tables.parked[row.number] = _numbered(row, row.number, at)
            return len(chosen)

    async def discard(self, query: ParkedQuery) -> int:
        self._tables.check_open()
        async with self._tables.lock:
            chosen = [row.number for row in self._rows() if query.fits(row)]
            for number in chosen:
                del self._tables.parked[number]
                self._tables.edits.pop(number, None)
            return len(chosen)

    async def count(self, query: ParkedQuery | None = None) -> Mapping[str, int]:
        return Counter(row.binding for row in self._rows() if query is None or query.fits(row))

    async def inspect(self, number: int) -> Inspection | None:
        rows = {row.number: row for row in self._rows()}
        if number not in rows:
            return None
        one = rows[number]
        queue = [n for n, row in rows.items() if (row.binding, row.queue) == (one.binding, one.queue)]
        first = number if one.queue is None else queue[0]
        return Inspection(one, first=first, edits=tuple(self._tables.edits.get(number, ())))

    async def edit(self, number: int, data: bytes, *, attributes: Mapping[str, str], at: float) -> bool:
        self._tables.check_open()
        async with self._tables.lock:
            row = self._tables.parked.get(number)
            if row is None:
                return False
            old = row.message
            self._tables.edits.setdefault(number, []).append(Edit(at, old.data))
            message = Message(old.topic, data, id=old.id, type=old.type, key=old.key, attributes=dict(attributes))
            self._tables.parked[number] = _numbered(row, number, row.due_at, message)
            return True

    def _rows(self) -> Sequence[ParkedMessage]:
        self._tables.check_open()
        return [row for _, row in sorted(self._tables.parked.items())]


class MemoryAnswers:
    """The answers that were kept."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def forget(self, before: float) -> None:
        self._tables.check_open()
        answers = self._tables.answers
        for entry in [entry for entry, (_, until) in answers.items() if until < before]:
            del answers[entry]


class MemoryTimers:
    """The messages that wait for their time."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def due(self, now: float, limit: int) -> Sequence[Timer]:
        self._tables.check_open()
        due = (timer for timer in self._tables.timers.values() if timer.due_at <= now)
        return sorted(due, key=lambda timer: (timer.due_at, timer.name))[:limit]

    async def next_due(self) -> float | None:
        self._tables.check_open()
        return min((timer.due_at for timer in self._tables.timers.values()), default=None)


class MemoryLeases:
    """One holder at a time of a named duty."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        self._tables.check_open()
        now = self._tables.clock.time()
        lease = self._tables.leases.setdefault(name, _Lease())
        if lease.holder not in (None, holder) and lease.expires_at > now:
            return None
        if lease.holder != holder:
            lease.holder = holder
            lease.epoch += 1
        lease.expires_at = now + seconds
        return lease.epoch

    async def release(self, name: str, holder: str) -> None:
        self._tables.check_open()
        lease = self._tables.leases.get(name)
        if lease is not None and lease.holder == holder:
            lease.holder = None

    async def find(self, name: str) -> Holding | None:
        self._tables.check_open()
        lease = self._tables.leases.get(name)
        if lease is None:
            return None
        return Holding(lease.holder if lease.expires_at > self._tables.clock.time() else None, lease.epoch)


class MemoryHints:
    """Calls whoever listens, at once."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    def tell(self) -> None:
        for heard in self._tables.listeners:
            heard()

    async def listen(self, heard: Callable[[], None]) -> None:
        self._tables.listeners.append(heard)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._tables.listeners.remove(heard)


class _Lease:
    __slots__ = ("epoch", "expires_at", "holder")

    def __init__(self) -> None:
        self.holder: str | None = None
        self.epoch = 0
        self.expires_at = 0.0


def _numbered(row: ParkedMessage, number: int, due_at: float | None, message: Message | None = None) -> ParkedMessage:
    numbered = ParkedMessage(
        row.binding,
        message or row.message,
        reason=row.reason,
        at=row.at,
        attempts=row.attempts,
        due_at=due_at,
        number=number,
    )
    numbered.queue = row.queue
    return numbered


def _no_sql() -> StatementFailed:
    return StatementFailed("The memory store runs no SQL. Configure TORPOR_DATABASE_URL=sqlite:///… or memory://.")
