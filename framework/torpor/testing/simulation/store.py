"""A service's connection to its simulated database: the store's port, each call over the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from torpor.kernel.errors import LeaseLost, StatementFailed, StoreUnavailable
from torpor.testing.simulation.database import Seat
from torpor.testing.simulation.ledger import Effect
from torpor.testing.simulation.loop import immediately
from torpor.testing.simulation.services import EFFECT, TROUBLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from torpor.kernel.message import Message, ParkedMessage, Timer
    from torpor.ports.statements import Statements
    from torpor.ports.store import Store
    from torpor.ports.tables import Leases, LogEntry, OutboxLog, ParkingLot
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

    async def admit(self, binding: str, messages: Sequence[Message]) -> Admission:
        inner = await self.reach(f"admit {binding} {len(messages)}")
        admission = immediately(inner.admit(binding, messages))
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
    """The two statements that the services under simulation use."""

    def __init__(self, unit: SimulatedUnit) -> None:
        self._unit = unit

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        await self._unit.reach("execute")
        self._run(statement, parameters)
        return 1

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        await self._unit.reach("fetch")
        self._run(statement, parameters)
        return []

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        await self._unit.reach("execute many")
        for row in rows:
            self._run(statement, row)

    def session(self) -> Any:
        raise StatementFailed("The simulated store has no sessions. Use tx.execute, tx.fetch or tx.write.")

    def _run(self, statement: str, parameters: Sequence[object]) -> None:
        handler, key, number = parameters[0], parameters[1], parameters[2]
        if not (isinstance(handler, str) and isinstance(key, str) and isinstance(number, int)):
            raise StatementFailed(f"{statement!r} was given {parameters!r}; expected a handler, a key and a number.")
        if statement == EFFECT:
            self._unit.effects.append(Effect(handler, key, number))
        elif statement == TROUBLE:
            self._unit.database.script.perform(handler, key, number)
        else:
            raise StatementFailed(f"{statement!r} is no statement of the simulated store; it knows EFFECT and TROUBLE.")


class SimulatedOutbox:
    """The outbox log over the network."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, limit: int) -> Sequence[LogEntry]:
        database = self._database
        await database.network.cross("pending")
        entries = immediately(database.store.outbox.pending(limit))
        for entry in entries[:1]:
            database.ledger.pending(database.service, entry.shard, entry.position)
        if entries:
            await database.network.delay()
        return entries

    async def advance(self, positions: Mapping[int, int], epoch: int) -> None:
        database = self._database
        await database.network.cross(f"advance {dict(positions)} epoch {epoch}")
        try:
            immediately(database.store.outbox.advance(positions, epoch))
        except LeaseLost:
            database.network.trace.note(database.service, "an old epoch is fenced off")
            raise
        database.ledger.advanced(database.service, positions, epoch)
        await database.network.delay()

    async def trim(self, *, published: float, admitted: float) -> int:
        await self._database.network.cross("trim")
        return immediately(self._database.store.outbox.trim(published=published, admitted=admitted))


class SimulatedParking:
    """The parking lot over the network."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        await self._database.network.cross("due")
        return immediately(self._database.store.parking.due(now, limit))

    async def list(
        self, *, binding: str | None = None, key: str | None = None, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        await self._database.network.cross("list parked")
        return immediately(self._database.store.parking.list(binding=binding, key=key, limit=limit))

    async def redrive(self, numbers: Sequence[int], at: float) -> int:
        return await self._alone(f"redrive {numbers}", self._database.store.parking.redrive, numbers, at)

    async def discard(self, numbers: Sequence[int]) -> int:
        return await self._alone(f"discard {numbers}", self._database.store.parking.discard, numbers)

    async def count(self) -> Mapping[str, int]:
        await self._database.network.cross("count parked")
        return immediately(self._database.store.parking.count())

    async def _alone(self, call: str, change: Any, *arguments: Any) -> int:
        """Makes a change as the only writer."""
        await self._database.network.cross(call)
        seat = Seat()
        await self._database.take(seat)
        if seat.is_lost:
            raise self._database.network.lost(call)
        try:
            changed: int = immediately(change(*arguments))
        finally:
            self._database.leave(seat)
        return changed


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
