"""A store in memory, without SQL: the port's contract in plain Python, for simulation and as a reference."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from torpor.kernel.errors import LeaseLost, StatementFailed, StoreUnavailable
from torpor.kernel.message import ParkedMessage
from torpor.ports.store import StorePromises
from torpor.ports.tables import LogEntry
from torpor.ports.unit import Admission

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from torpor.kernel.message import Message, Timer
    from torpor.ports.clock import Clock
    from torpor.ports.statements import Statements
    from torpor.ports.tables import Leases, OutboxLog, ParkingLot
    from torpor.ports.timers import Timers

_SHARD = 0
_RELAY = "relay"  # the lease whose epoch guards the cursor


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
        self.timers: dict[str, Timer] = {}
        self.leases: dict[str, _Lease] = {}
        self.last_position = 0
        self.last_number = 0
        self.cursor = 0

    def check_open(self) -> None:
        if not self.is_open:
            raise StoreUnavailable("The memory store is not open. Await its start() first.")


class _Changes:
    """What a unit has done so far, none of it to be seen by others."""

    __slots__ = ("admitted", "appended", "cancelled", "claimed", "given", "parked", "timers")

    def __init__(self, before: _Changes | None = None) -> None:
        self.given: int = before.given if before else 0  # new numbers of parked rows
        self.admitted: set[tuple[str, str]] = set(before.admitted) if before else set()
        self.appended: list[Message] = list(before.appended) if before else []
        self.claimed: set[int] = set(before.claimed) if before else set()
        self.parked: dict[int, ParkedMessage] = dict(before.parked) if before else {}
        self.timers: dict[str, Timer] = dict(before.timers) if before else {}
        self.cancelled: set[str] = set(before.cancelled) if before else set()


class MemoryUnit:
    """One open transaction. It takes the store's lock with its first call."""

    def __init__(self, tables: _Tables) -> None:
        self.statements: Statements = NoStatements()
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

    async def admit(self, binding: str, messages: Sequence[Message]) -> Admission:
        changes = await self._begin()
        entries = {(binding, message.id) for message in messages}
        fresh = entries - changes.admitted - self._tables.inbox.keys()
        changes.admitted |= fresh
        blocked = {row.message.key for row in self._parked().values() if row.binding == binding}
        return Admission(
            {id for _, id in fresh},
            {message.key for message in messages if message.key is not None and message.key in blocked},
        )

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
        tables.last_number += changes.given
        self._end()

    def _parked(self) -> dict[int, ParkedMessage]:
        """The parked rows as this unit sees them."""
        rows = {number: row for number, row in self._tables.parked.items() if number not in self._changes.claimed}
        return rows | self._changes.parked

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


class NoStatements:
    """Says which store runs SQL."""

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        raise _no_sql()

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        raise _no_sql()

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        raise _no_sql()

    def session(self) -> Any:
        raise _no_sql()


class MemoryOutbox:
    """The committed messages to publish."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def pending(self, limit: int) -> Sequence[LogEntry]:
        tables = self._tables
        tables.check_open()
        positions = range(tables.cursor + 1, tables.last_position + 1)[:limit]
        return [LogEntry(_SHARD, position, tables.outbox[position][0]) for position in positions]

    async def advance(self, positions: Mapping[int, int], epoch: int) -> None:
        self._tables.check_open()
        lease = self._tables.leases.get(_RELAY)
        if lease is None or lease.epoch != epoch:
            raise LeaseLost(f"The relay's lease of epoch {epoch} is lost. Acquire it before publishing.")
        self._tables.cursor = max(self._tables.cursor, positions.get(_SHARD, 0))

    async def trim(self, *, published: float, admitted: float) -> int:
        tables = self._tables
        tables.check_open()
        sent = [p for p, (_, at) in tables.outbox.items() if p <= tables.cursor and at < published]
        known = [entry for entry, at in tables.inbox.items() if at < admitted]
        for position in sent:
            del tables.outbox[position]
        for entry in known:
            del tables.inbox[entry]
        return len(sent) + len(known)


class MemoryParking:
    """The messages set aside."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        seen: set[tuple[str, str]] = set()
        found = []
        for row in self._rows():
            place = None if row.message.key is None else (row.binding, row.message.key)
            if place not in seen and row.due_at is not None and row.due_at <= now:
                found.append(row)
            if place is not None:
                seen.add(place)
        return found[:limit]

    async def list(
        self, *, binding: str | None = None, key: str | None = None, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        rows = (row for row in self._rows() if binding in (None, row.binding) and key in (None, row.message.key))
        return list(rows)[:limit]

    async def redrive(self, numbers: Sequence[int], at: float) -> int:
        self._tables.check_open()
        async with self._tables.lock:
            known = [number for number in dict.fromkeys(numbers) if number in self._tables.parked]
            for number in known:
                self._tables.parked[number] = _numbered(self._tables.parked[number], number, at)
            return len(known)

    async def discard(self, numbers: Sequence[int]) -> int:
        self._tables.check_open()
        async with self._tables.lock:
            return sum(self._tables.parked.pop(number, None) is not None for number in numbers)

    async def count(self) -> Mapping[str, int]:
        return Counter(row.binding for row in self._rows())

    def _rows(self) -> Sequence[ParkedMessage]:
        self._tables.check_open()
        return [row for _, row in sorted(self._tables.parked.items())]


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


class _Lease:
    __slots__ = ("epoch", "expires_at", "holder")

    def __init__(self) -> None:
        self.holder: str | None = None
        self.epoch = 0
        self.expires_at = 0.0


def _numbered(row: ParkedMessage, number: int, due_at: float | None) -> ParkedMessage:
    return ParkedMessage(
        row.binding,
        row.message,
        reason=row.reason,
        at=row.at,
        attempts=row.attempts,
        due_at=due_at,
        number=number,
    )


def _no_sql() -> StatementFailed:
    return StatementFailed("The memory store runs no SQL. Configure TORPOR_DATABASE_URL=sqlite:///… or memory://.")
