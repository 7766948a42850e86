"""The course of a run: services come up, clients work while things break, everything heals, all comes to rest."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import (
    BrokerUnavailable,
    NeverSettled,
    NotAnswered,
    NotRunning,
    StoreUnavailable,
    TimedOut,
    TorporError,
)
from torpor.testing.simulation.ledger import NEVER_STUCK
from torpor.testing.simulation.loop import EPOCH, immediately
from torpor.testing.simulation.passing import ENDED, NOTHING_LEFT
from torpor.testing.simulation.script import Trouble
from torpor.testing.simulation.services import Asked
from torpor.testing.simulation.source import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import ParkedMessage
    from torpor.testing.simulation.database import Database
    from torpor.testing.simulation.world import Replica, World

_MOMENTS = (
    "publish", "advance", "acquire", "unit admit", "unit append", "unit commit", "unit claim", "acknowledge", "ask",
    "answer", "tell",
)  # fmt: skip
SERVICES = ("source", "stock", "bill")
_LONGEST_START = 60.0
_LONGEST_REST = 200.0  # seconds of virtual time
_READY_CHECKS = 60
_QUIET_CHECKS = 4
_ROUNDS = 60
_ALL = 1_000_000


class Life:
    """One run of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.weather.chance
        self._replicas = self._chance.choice((1, 2))
        self._work: set[asyncio.Task[None]] = set()  # faults under way

    async def run(self) -> None:
        """Lives it, and has the ledger check the invariants."""
        world = self._world
        servers = asyncio.create_task(world.tend())
        for service in SERVICES * self._replicas:
            world.start(service)
        await self._until_serving()
        sources = [Source(world, binding, self._serving) for binding in world.pushed_bindings]
        for source in sources:
            await source.open()
        clients = [asyncio.create_task(self._place(f"k{n}")) for n in range(self._chance.randrange(2, 6))]
        clients += [asyncio.create_task(self._ask_all(f"q{n}")) for n in range(self._chance.randrange(3))]
        await self._break_things()
        await self._heal()
        await asyncio.wait(clients)
        for client in clients:
            client.result()
        if await self._rest():
            world.ledger.account()
            world.script.is_over = True
            await self._ask("last", 0, timeout=10.0)
            if world.ledger.passing.asked["last/0"] != "answered":
                world.ledger.violate(ENDED, "When all is well a request is not answered.")
            if await self._redrive_all():
                world.count_interruptions()
                world.ledger.conclude()
        await self._check_parts()
        await self._check_left_over()
        for source in sources:
            source.close()
        for replica in list(world.replicas):
            await world.stop(replica)
        servers.cancel()

    async def _place(self, key: str) -> None:
        """A client: asks for the numbers of its key one after the other, and does not ask twice."""
        world, number = self._world, 0
        for _ in range(self._chance.randrange(1, 9)):
            await asyncio.sleep(self._chance.random() * 2)
            count = self._chance.choice((1, 1, 1, 2, 3))
            numbers = list(range(number, number + count))
            number += count
            replica = await self._serving("source")
            answer = replica.begin(self._answer(replica, key, numbers))
            await asyncio.wait({answer, replica.process.ended}, return_when="FIRST_COMPLETED")
            if answer.done():
                answer.result()
            else:
                world.trace.note("client", f"never hears of {key} {numbers}")

    async def _answer(self, replica: Replica, key: str, numbers: list[int]) -> None:
        """A request, as the replica answers it."""
        names = [f"sim.placed {key}/{number}" for number in numbers]
        ledger, (route,) = self._world.ledger, replica.host.plan.routes
        try:
            await replica.host.responder(route.handled).respond({"key": key, "numbers": numbers})
        except StoreUnavailable:
            return  # it may have been committed, or not
        except (TorporError, Trouble):
            ledger.refused += names
        else:
            ledger.accepted += names

    async def _ask_all(self, key: str) -> None:
        """A client: asks for numbers, now and then several at once."""
        number = 0
        for _ in range(self._chance.randrange(1, 6)):
            await asyncio.sleep(self._chance.random() * 3)
            count = self._chance.choice((1, 1, 3))
            timeout = self._chance.choice((0.05, 1.0, 5.0))
            await asyncio.gather(*(self._ask(key, one, timeout=timeout) for one in range(number, number + count)))
            number += count

    async def _ask(self, key: str, number: int, *, timeout: float) -> None:  # noqa: ASYNC109  # it travels
        world, name = self._world, f"{key}/{number}"
        replica = await self._serving("source")
        world.ledger.passing.ask(name)
        asking = replica.begin(self._asked(replica, Asked(key=key, number=number), timeout))
        either: set[asyncio.Future[Any]] = {asking, replica.process.ended}
        await asyncio.wait(either, return_when="FIRST_COMPLETED")
        how = asking.result() if asking.done() else "gone"
        world.trace.note("client", f"asked for {name}: {how}")
        world.ledger.passing.end(name, how)

    async def _asked(self, replica: Replica, request: Asked, timeout: float) -> str:  # noqa: ASYNC109  # it travels
        """How a request has ended."""
        try:
            answer = await replica.host.ask(request, timeout=timeout)
        except NotAnswered as error:
            return error.code
        except (TimedOut, BrokerUnavailable, NotRunning):
            return "unknown"
        return "answered" if answer == request.number else f"answered with {answer}"

    async def _serving(self, service: str) -> Replica:
        while True:
            serving = [r for r in self._world.replicas if r.host.name == service and r.is_serving]
            if serving:
                return self._chance.choice(serving)
            await asyncio.sleep(0.25)

    async def _until_serving(self) -> None:
        deadline = self._world.loop.time() + _LONGEST_START
        while not all(replica.is_serving for replica in self._world.replicas):
            await asyncio.sleep(0.1)
            if self._world.loop.time() > deadline:
                status = {replica.process.name: _troubles(replica) for replica in self._world.replicas}
                raise NeverSettled(f"Services are not ready {_LONGEST_START:g} s after all faults are over: {status}")

    async def _break_things(self) -> None:
        kinds = [self._crash, self._outage, self._broker_outage, self._stop, self._redrive, self._freeze, self._freeze]
        enabled = [kind for kind in kinds if self._chance.random() < 0.6]
        for _ in range(self._chance.randrange(12) if enabled else 0):
            await asyncio.sleep(self._chance.random() * 2)
            task = asyncio.create_task(self._chance.choice(enabled)())
            self._work.add(task)

    async def _heal(self) -> None:
        """Lets the faults under way end, and allows no more. What a handler cannot take stays so."""
        world = self._world
        for replica in world.replicas:
            replica.process.fuse, replica.process.awaited = 0, ""
        if self._work:
            await asyncio.wait(self._work)
        for task in self._work:
            task.result()
        world.weather.is_calm = True
        for service in SERVICES:
            if not any(replica.host.name == service for replica in world.replicas):
                world.start(service)
        await self._until_serving()

    async def _crash(self) -> None:
        """Crashes a replica at one of its next awaits, and starts another a little later."""
        replica = self._any()
        if replica is None or not await self._burn(replica):
            return
        self._world.crash(replica)
        await self._come_back(replica)

    async def _freeze(self) -> None:
        """Freezes a replica at one of its next awaits, often until others have taken over; one may die of it."""
        replica, world = self._any(), self._world
        if replica is None or not await self._burn(replica, ("publish", "publish", "advance", "unit commit")):
            return
        world.freeze(replica)
        await asyncio.sleep(self._chance.choice((0.1, 2.0, 4.0, 8.0)) * (0.5 + self._chance.random()))
        if self._chance.random() < 0.5:
            world.start(replica.host.name)
        await asyncio.sleep(self._chance.choice((0.5, 4.0)) * self._chance.random())
        if not replica.process.is_dead and self._chance.random() < 0.2:
            world.crash(replica)
            await self._come_back(replica)
        elif not replica.process.is_dead:
            world.thaw(replica)

    async def _stop(self) -> None:
        """Stops a replica in the middle of its work; with several, its successor may start first."""
        replica = self._any()
        if replica is not None:
            await self._world.stop(replica)
            await self._come_back(replica)

    async def _outage(self) -> None:
        service = self._chance.choice(SERVICES)
        self._world.set_database_down(service, is_down=True)
        await asyncio.sleep(self._chance.random() * 4)
        self._world.set_database_down(service, is_down=False)

    async def _broker_outage(self) -> None:
        self._world.set_broker_down(is_down=True)
        await asyncio.sleep(self._chance.random() * 4)
        self._world.set_broker_down(is_down=False)

    async def _redrive(self) -> None:
        """An operator tries what is parked again, though it may still fail."""
        world = self._world
        for database in world.databases.values():
            rows = immediately(database.store.parking.list(limit=_ALL))
            chosen = [row.number for row in rows if self._chance.random() < 0.7]
            world.trace.note("operator", f"redrives {chosen} of {database.service}")
            await database.redrive(chosen, at=self._now())

    async def _burn(self, replica: Replica, moments: Sequence[str] = _MOMENTS) -> bool:
        """Waits for one of a replica's next steps, or for a moment of interest; False when it is gone before."""
        burnt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        process = replica.process
        process.trip = partial(_set, burnt)
        if self._chance.random() < 0.5:
            process.fuse = int(2 ** (self._chance.random() * 9))
        else:
            process.awaited = self._chance.choice(moments)
        await asyncio.wait({burnt, process.ended}, timeout=5.0, return_when="FIRST_COMPLETED")
        process.fuse, process.awaited = 0, ""
        return not (process.is_dead or process.is_frozen) and replica in self._world.replicas

    async def _come_back(self, replica: Replica) -> None:
        await asyncio.sleep(self._chance.choice((0.1, 5.0)) * self._chance.random())
        self._world.start(replica.host.name)

    def _any(self) -> Replica | None:
        running = [
            r
            for r in self._world.replicas
            if not (r.process.is_frozen or r.stopping or r.process.fuse or r.process.awaited)
        ]
        return self._chance.choice(running) if running else None

    async def _redrive_all(self) -> bool:
        """Has an operator redrive until nothing is parked."""
        world = self._world
        lots: dict[Database, Sequence[ParkedMessage]] = {}
        for _ in range(_ROUNDS):
            lots = {d: immediately(d.store.parking.list(limit=_ALL)) for d in world.databases.values()}
            if not any(lots.values()):
                return True
            for database, rows in lots.items():
                await database.redrive([row.number for row in rows], at=self._now())
            if not await self._rest():
                return False
        world.ledger.violate(NEVER_STUCK, f"Messages stay parked: {[*lots.values()]}")
        return False

    async def _rest(self) -> bool:
        """Waits until nothing moves any more; tells whether it came to that."""
        world = self._world
        deadline, quiet = world.loop.time() + _LONGEST_REST, 0
        while quiet < _QUIET_CHECKS:
            await asyncio.sleep(0.5)
            quiet = quiet + 1 if self._is_quiet() else 0
            if world.loop.time() > deadline:
                status = {replica.process.name: _troubles(replica) for replica in world.replicas}
                told = {database.service: self._backlog(database) for database in world.databases.values()}
                world.ledger.violate(NEVER_STUCK, f"No rest after {_LONGEST_REST:g} s: {told} {world.hub!r} {status}")
                return False
        return True

    def _is_quiet(self) -> bool:
        world = self._world
        return world.hub.is_idle and not any(any(self._backlog(d)) for d in world.databases.values())

    def _backlog(self, database: Database) -> tuple[int, int, bool]:
        """How many rows wait in the outbox, how many parked ones have a time to come or past, and if a timer waits."""
        store = database.store
        heads = {(row.binding, row.queue): row for row in reversed(immediately(store.parking.list(limit=_ALL)))}
        waiting = sum(row.due_at is not None for row in heads.values())
        has_timer = immediately(store.timers.next_due()) is not None
        return len(immediately(store.outbox.pending(_ALL))), waiting, has_timer

    def _now(self) -> float:
        return EPOCH + self._world.loop.time()

    async def _check_parts(self) -> None:
        """Every replica is ready again, no part of one has died, and nothing has failed where nobody looks."""
        for _ in range(_READY_CHECKS):
            if not any(_troubles(replica) for replica in self._world.replicas):
                break
            await asyncio.sleep(0.5)
        for replica in self._world.replicas:
            for part, reason in _troubles(replica).items():
                self._world.ledger.violate(NEVER_STUCK, f"{part} of {replica.process.name}: {reason}")
        for error in self._world.loop.errors:
            self._world.ledger.violate(NEVER_STUCK, error)

    async def _check_left_over(self) -> None:
        """Nothing is under way any more, and nobody waits for an answer."""
        for _ in range(_READY_CHECKS):
            if all(replica.host.is_idle for replica in self._world.replicas):
                break
            await asyncio.sleep(0.5)
        for replica in self._world.replicas:
            if not replica.host.is_idle:
                self._world.ledger.violate(NOTHING_LEFT, f"{replica.process.name} is not idle.")
        if self._world.exchange.left_over():
            self._world.ledger.violate(NOTHING_LEFT, f"{self._world.exchange.left_over()} answers are waited for.")


def _troubles(replica: Replica) -> dict[str, str]:
    return {part: reason for part, reason in replica.host.health.reasons.items() if reason is not None}


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
