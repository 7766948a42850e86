"""A service's connection to its simulated database: the store's port, each call over the network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from torpor.kernel.errors import LeaseLost, StatementFailed, StoreUnavailable
from torpor.testing.simulation.database import Seat
from torpor.testing.simulation.ledger import Effect
from torpor.testing.simulation.loop import immediately
from torpor.testing.simulation.services import DECLINED, EFFECT, TROUBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from torpor.kernel.message import Message, ParkedMessage, Timer
    from torpor.kernel.parked import Inspection, ParkedQuery
    from torpor.ports.hints import Hints
    from torpor.ports.leases import Holding, Leases
    from torpor.ports.outbox import LogEntry, LogState, OutboxLog
    from torpor.ports.parking import ParkingLot
    from torpor.ports.requests import Answer, Answers, Requests, Turn
    from torpor.ports.statements import Statements
    from torpor.ports.store import Store
    from torpor.ports.timers import Timers
    from torpor.ports.unit import Admission, Unit
    from torpor.testing.simulation.database import Database


class SimulatedStore:
    """One replica's view of its service's database."""

    def __init__(self, database: Database) -> None:
        inner: Store = database.store
        self.promises = inner.promises
        self.outbox: OutboxLog = SimulatedOutbox(database)
        self.parking: ParkingLot = SimulatedParking(database)
        self.timers: Timers = SimulatedTimers(database)
        self.leases: Leases = SimulatedLeases(database)
        self.hints: Hints = SimulatedHints(database)
        self.answers: Answers = database.store.answers
        self._database = database

    async def start(self) -> None:
        await self._database.network.cross("start")
        immediately(self._database.store.start())

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        return []

    def unit(self) -> SimulatedUnit:
        return SimulatedUnit(self._database)

    async def ping(self) -> None:
        await self._database.network.cross("ping")

    async def stop(self) -> None:
        """Nothing: the database goes on."""


class SimulatedUnit(Seat):
    """One open transaction. It takes the database's writer with its first call, and loses it with its connection."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.statements: Statements = SimulatedStatements(self)
        self.requests: Requests = SimulatedRequests(self)
        self.database = database
        self.effects: list[Effect] = []
        self._messages: list[Message] = []
        self._mark: int | None = None
        self._inner: Unit | None = None
        self._entered: Any = None
        self._is_timekeepers = False  # a row that was accepted as a timer is accepted again

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        inner = await self.reach(f"admit {binding} {len(messages)}")
        admission = immediately(inner.admit(binding, messages, queue))
        await self.database.network.delay()
        return admission

    async def claim(self, number: int) -> bool:
        inner = await self.reach(f"claim {number}")
        return immediately(inner.claim(number))

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        inner = await self.reach(f"append {len(messages)} parked {len(parked)}")
        if not self._is_timekeepers:
            self.database.script.curse(messages)
        immediately(inner.append(messages, parked, timers))
        self._messages += messages

    async def cancel(self, timer: str, due_at: float | None = None) -> bool:
        inner = await self.reach("cancel")
        self._is_timekeepers = True
        return immediately(inner.cancel(timer, due_at))

    async def savepoint(self) -> None:
        inner = await self.reach("savepoint")
        immediately(inner.savepoint())
        self._mark = len(self.effects)

    async def rollback_to_savepoint(self) -> None:
        inner = await self.reach("rollback")
        immediately(inner.rollback_to_savepoint())
        del self.effects[self._mark :]

    async def commit(self) -> None:
        inner = await self.reach("commit")
        network = self.database.network
        is_lost = network.weather.happens(network.weather.lost_commits)
        if is_lost and network.weather.happens(0.5):
            self._end()
            raise network.lost("commit (not applied)")
        immediately(inner.commit())
        self.database.record(self._messages, self.effects)
        self._end()
        await network.delay()
        if is_lost:
            raise network.lost("commit (applied)")

    async def reach(self, call: str) -> Unit:
        """Crosses the network, and takes the writer if this is the first call."""
        network = self.database.network
        await network.cross(f"unit {call}")
        if self.is_lost or network.weather.happens(network.weather.lost_statements):
            self._end()
            raise network.lost(call)
        if self._inner is None:
            await self.database.take(self)
            if self.is_lost:
                raise network.lost(call)
            self._entered = self.database.store.unit()
            self._inner = immediately(self._entered.__aenter__())
        if self._inner is None:
            raise StoreUnavailable("The unit has not begun.")
        return self._inner

    def rolled_back(self) -> None:
        self.is_lost = True
        entered, self._entered = self._entered, None
        if entered is not None:
            immediately(entered.__aexit__(None, None, None))

    def _end(self) -> None:
        if not self.is_lost:
            self.rolled_back()
            self.database.leave(self)


class SimulatedStatements:
    """The statements that the services under simulation use."""

    def __init__(self, unit: SimulatedUnit) -> None:
        self._unit = unit

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        await self._unit.reach("execute")
        self._run(statement, parameters)
        return 1

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        await self._unit.reach("fetch")
        is_declined = self._run(statement, parameters)
        return [{"declined": True}] if is_declined else []

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        await self._unit.reach("execute many")
        for row in rows:
            self._run(statement, row)

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        raise StatementFailed("The simulated store has no tables. Use tx.execute, tx.fetch or tx.write.")

    def session(self) -> Any:
        raise StatementFailed("The simulated store has no sessions. Use tx.execute, tx.fetch or tx.write.")

    def _run(self, statement: str, parameters: Sequence[object]) -> bool:
        """Runs one; tells whether the script declines what DECLINED asks for."""
        handler, key, number = parameters[0], parameters[1], parameters[2]
        if not (isinstance(handler, str) and isinstance(key, str) and isinstance(number, int)):
            raise StatementFailed(f"{statement!r} was given {parameters!r}; expected a handler, a key and a number.")
        if statement == EFFECT:
            self._unit.effects.append(Effect(handler, key, number))
        elif statement == TROUBLE:
            self._unit.database.script.perform(handler, key, number)
        elif statement == DECLINED:
            return self._unit.database.script.declines(handler, key, number)
        else:
            raise StatementFailed(f"{statement!r} is no statement of the simulated store; see the services.")
        return False


class SimulatedRequests:
    """The requests of one unit over the network."""

    def __init__(self, unit: SimulatedUnit) -> None:
        self._unit = unit

    async def take(self, place: str, key: str, now: float) -> Turn:
        inner = await self._unit.reach(f"take {key}")
        return immediately(inner.requests.take(place, key, now))

    async def keep(self, place: str, key: str, answer: Answer, *, until: float) -> None:
        inner = await self._unit.reach(f"keep {key}")
        immediately(inner.requests.keep(place, key, answer, until=until))


class SimulatedOutbox:
    """The outbox log over the network."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        database = self._database
        await database.network.cross("pending")
        entries = immediately(database.store.outbox.pending(limit, epoch, past))
        for entry in entries[:1]:
            database.ledger.pending(database.service, entry.shard, entry.position)
        if entries:
            await database.network.delay()
        return entries

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        database = self._database
        await database.network.cross(f"advance {dict(positions)} epoch {epoch}")
        try:
            await self._advance(positions, epoch, parked)
        except LeaseLost:
            database.network.trace.note(database.service, "an old epoch is fenced off")
            raise
        database.ledger.advanced(database.service, positions, epoch)
        await database.network.delay()

    async def _advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage]) -> None:
        advance = self._database.store.outbox.advance
        if not parked:
            immediately(advance(positions, epoch))
            return
        seat = Seat()
        await self._database.take(seat)
        if seat.is_lost:
            raise self._database.network.lost("advance")
        try:
            immediately(advance(positions, epoch, parked))
            self._database.record([], [])
        finally:
            self._database.leave(seat)

    async def trim(self, *, published: float, admitted: float) -> None:
        await self._database.network.cross("trim")
        immediately(self._database.store.outbox.trim(published=published, admitted=admitted))

    async def state(self) -> LogState:
        await self._database.network.cross("log state")
        return immediately(self._database.store.outbox.state())

    async def published_since(self, since: float, topic: str | None = None) -> Mapping[str, int]:
        await self._database.network.cross("published since")
        return immediately(self._database.store.outbox.published_since(since, topic))

    async def replay(self, since: float, topic: str | None = None) -> None:
        await self._database.network.cross("replay")
        immediately(self._database.store.outbox.replay(since, topic))


class SimulatedParking:
    """The parking lot over the network."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        await self._database.network.cross("due")
        return immediately(self._database.store.parking.due(now, limit))

    async def list(
        self, query: ParkedQuery | None = None, *, after: int = 0, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        await self._database.network.cross("list parked")
        return immediately(self._database.store.parking.list(query, after=after, limit=limit))

    async def redrive(self, query: ParkedQuery, at: float) -> int:
        changed: int = await self._alone(f"redrive {query}", self._database.store.parking.redrive, query, at)
        return changed

    async def discard(self, query: ParkedQuery) -> int:
        changed: int = await self._alone(f"discard {query}", self._database.store.parking.discard, query)
        return changed

    async def count(self, query: ParkedQuery | None = None) -> Mapping[str, int]:
        await self._database.network.cross("count parked")
        return immediately(self._database.store.parking.count(query))

    async def inspect(self, number: int) -> Inspection | None:
        await self._database.network.cross("inspect parked")
        return immediately(self._database.store.parking.inspect(number))

    async def edit(self, number: int, data: bytes, *, attributes: Mapping[str, str], at: float) -> bool:
        edit = partial(self._database.store.parking.edit, attributes=attributes, at=at)
        is_done: bool = await self._alone(f"edit {number}", edit, number, data)
        return is_done

    async def _alone(self, call: str, change: Any, *arguments: Any) -> Any:
        """Makes a change as the only writer."""
        await self._database.network.cross(call)
        seat = Seat()
        await self._database.take(seat)
        if seat.is_lost:
            raise self._database.network.lost(call)
        try:
            return immediately(change(*arguments))
        finally:
            self._database.leave(seat)


class SimulatedTimers:
    """The timers over the network."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[Timer]:
        await self._database.network.cross("due timers")
        return immediately(self._database.store.timers.due(now, limit))

    async def next_due(self) -> float | None:
        await self._database.network.cross("next timer")
        return immediately(self._database.store.timers.next_due())


class SimulatedLeases:
    """The leases over the network."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        database = self._database
        await database.network.cross(f"acquire {name}")
        epoch = immediately(database.store.leases.acquire(name, holder, seconds))
        if epoch is not None:
            database.ledger.acquired(database.service, name, epoch)
        await database.network.delay()
        return epoch

    async def release(self, name: str, holder: str) -> None:
        await self._database.network.cross(f"release {name}")
        immediately(self._database.store.leases.release(name, holder))

    async def find(self, name: str) -> Holding | None:
        await self._database.network.cross(f"find {name}")
        return immediately(self._database.store.leases.find(name))


class SimulatedHints:
    """Hints get lost over this network: what works without them works."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tell(self) -> None:
        """Lost."""

    async def listen(self, heard: Callable[[], None]) -> None:
        await self._database.network.cross("listen")
