"""The world of one run: servers that outlive everything, replicas that do not, and who brings them down and up."""

from __future__ import annotations

import asyncio
from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.adapters.memory.store import MemoryStore
from torpor.assembly import duties_of, rest_of
from torpor.features.relay import Relay
from torpor.kernel.errors import BrokerUnavailable, StoreUnavailable
from torpor.kernel.order import Order
from torpor.runtime.host import Host
from torpor.testing.simulation.broker import BrokerServer, SimulatedBroker
from torpor.testing.simulation.database import Database
from torpor.testing.simulation.exchange import ExchangeServer, SimulatedExchange
from torpor.testing.simulation.ledger import Ledger
from torpor.testing.simulation.loop import LoopClock, Process, SimulationLoop
from torpor.testing.simulation.script import Script
from torpor.testing.simulation.services import plans
from torpor.testing.simulation.store import SimulatedStore
from torpor.testing.simulation.weather import Network, Trace, Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from torpor.ports.clock import Clock
    from torpor.ports.exchange import Exchange
    from torpor.ports.store import Store
    from torpor.runtime.host import Duty
    from torpor.runtime.plan import Plan, SubscriberBinding

T = TypeVar("T")

_SERVER_TICK = 0.5
_PUSHED = 0.3  # the share of services that requests bring their messages to
_PATIENCE = 2.0  # seconds that a database waits for a client that does not move


class Parts:
    """What a run is made of. A test swaps one to put an old fault back."""

    __slots__ = ("broker", "duties", "exchange", "host", "store")

    def __init__(
        self,
        *,
        store: Callable[[Clock], Store] = MemoryStore,
        broker: Callable[[MemoryHub], MemoryBroker] = MemoryBroker,
        duties: Callable[[Plan], Sequence[Duty]] = duties_of,
        host: type[Host] = Host,
        exchange: Callable[[MemoryBroker], Exchange] = attrgetter("exchange"),
    ) -> None:
        self.host = host
        self.exchange = exchange
        self.store = store
        self.broker = broker
        self.duties = duties


class Replica:
    """One process that runs one service."""

    __slots__ = ("host", "process", "stopping")

    def __init__(self, host: Host, process: Process) -> None:
        self.host = host
        self.process = process
        self.stopping: asyncio.Task[None] | None = None

    @property
    def is_serving(self) -> bool:
        """Whether it is there, and answers."""
        reasons = self.host.health.reasons
        is_up = all(reasons.get(part, "not begun") is None for part in ("service", "store"))
        return is_up and not (self.process.is_dead or self.process.is_frozen or self.stopping)

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts work in the process."""
        return asyncio.get_running_loop().create_task(work, context=self.process.context())


class World:
    """Servers, replicas and the record of a run."""

    def __init__(self, seed: int, *, parts: Parts, trace: Trace) -> None:
        self.weather = Weather(seed)
        self.trace = trace
        self.loop = trace.loop = SimulationLoop(self.weather.chance)
        self.script = Script(seed, self.weather)
        self.process = Process("world", self.loop.create_future())
        self.replicas: list[Replica] = []
        self._parts = parts
        self._starts: Counter[str] = Counter()
        bindings = [binding for plan in plans() for binding in plan.subscribers]
        self.ledger = Ledger(
            {binding.handled.name: binding.topic for binding in bindings},
            strict={binding.handled.name for binding in bindings if binding.policies.order is Order.STRICT},
        )
        self.hub = MemoryHub(deduplicates=self.weather.is_deduplicating)
        wire = Network("the broker", self.weather, trace=trace, error=BrokerUnavailable)
        self.broker = BrokerServer(wire, ledger=self.ledger, script=self.script)
        self.exchange = ExchangeServer(wire, lambda: self.hub.switch.waiting)
        self.databases = {plan.name: self._database(plan) for plan in plans()}
        self.pushed = {plan.name for plan in plans() if self.weather.chance.random() < _PUSHED}

    @property
    def pushed_bindings(self) -> list[SubscriberBinding]:
        """The handlers of topics that requests bring their messages to."""
        return [binding for plan in plans() if plan.name in self.pushed for binding in plan.subscribers]

    def connect(self) -> MemoryBroker:
        """A connection to the broker that no fault reaches but its own."""
        return MemoryBroker(self.hub)

    def start(self, service: str) -> Replica:
        """Starts a new replica of a service."""
        (plan,) = (plan for plan in plans() if plan.name == service)
        self._starts[service] += 1
        process = Process(f"{service}-{self._starts[service]}", self.loop.create_future())
        connection = self._parts.broker(self.hub)
        broker = SimulatedBroker(self.broker, connection)
        duties = process.context().run(self._parts.duties, plan)
        for duty in duties:
            if isinstance(duty, Relay):
                duty.batch = self.weather.batch
        host = self._parts.host(
            plan,
            broker=broker,
            store=SimulatedStore(self.databases[service]),
            clock=LoopClock(self.loop),
            duties=duties,
            exchange=SimulatedExchange(self.exchange, self._parts.exchange(connection)),
            rest=rest_of(duties) if service in self.pushed else None,
        )
        replica = Replica(host, process)
        self.replicas.append(replica)
        self.trace.note(process.name, "starts")
        replica.begin(host.start())
        return replica

    def crash(self, replica: Replica) -> None:
        """Ends a process between two awaits. Nothing of it runs any more."""
        process = replica.process
        self.trace.note(process.name, "CRASHES")
        self.ledger.interruptions[replica.host.name] += 1
        process.is_dead = True
        process.ended.set_result(None)
        self.databases[replica.host.name].hang_up(process)
        self.replicas.remove(replica)

    def freeze(self, replica: Replica) -> None:
        """Stops a process from running, and leaves it its connections."""
        self.trace.note(replica.process.name, "FREEZES")
        self.ledger.interruptions[replica.host.name] += 1
        replica.process.is_frozen = True

    def thaw(self, replica: Replica) -> None:
        """Lets a frozen process go on, with all that it believes."""
        self.trace.note(replica.process.name, "goes on")
        self.loop.thaw(replica.process)

    async def stop(self, replica: Replica) -> None:
        """Stops a replica as an orchestrator does: drained if it can, killed if it takes too long."""
        self.trace.note(replica.process.name, "is stopped")
        replica.stopping = replica.begin(replica.host.stop(5.0))
        await asyncio.wait({replica.stopping, replica.process.ended}, timeout=30.0, return_when="FIRST_COMPLETED")
        if replica.process.is_dead:
            return
        if replica.stopping.done():
            replica.stopping.result()
            self.trace.note(replica.process.name, "has stopped")
            self.replicas.remove(replica)
        else:
            self.crash(replica)

    def set_broker_down(self, *, is_down: bool) -> None:
        """The broker goes away, or comes back."""
        self.trace.note("broker", "is DOWN" if is_down else "is up")
        self.broker.network.is_down = self.hub.is_down = is_down

    def set_database_down(self, service: str, *, is_down: bool) -> None:
        """A database goes away, and with it the units under way; or it comes back."""
        self.trace.note(service, "database is DOWN" if is_down else "database is up")
        database = self.databases[service]
        database.network.is_down = is_down
        if is_down:
            database.hang_up()

    async def tend(self) -> None:
        """Does what servers do by themselves: redelivers, and ends the units of clients that do not move."""
        frozen: dict[Process, float] = {}
        while True:
            await asyncio.sleep(_SERVER_TICK)
            self.broker.expire()
            self.broker.depose()
            self.exchange.forget_the_dead()
            for replica in self.replicas:
                if not replica.process.is_frozen:
                    frozen.pop(replica.process, None)
                elif self.loop.time() - frozen.setdefault(replica.process, self.loop.time()) > _PATIENCE:
                    self.databases[replica.host.name].hang_up(replica.process)

    def count_interruptions(self) -> None:
        """Adds the lost calls to what may have made a relay publish again."""
        networks = (self.broker.network, *(database.network for database in self.databases.values()))
        for network in networks:
            for caller, count in network.lost_calls.items():
                self.ledger.interruptions[caller.partition("-")[0]] += count

    def _database(self, plan: Plan) -> Database:
        network = Network(f"the database of {plan.name}", self.weather, trace=self.trace, error=StoreUnavailable)
        store = self._parts.store(LoopClock(self.loop))
        return Database(plan.name, store, network=network, ledger=self.ledger, script=self.script)
