"""The host: one running service."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, NotRunning, SchemaMismatch, StoreUnavailable
from torpor.kernel.retry import wait_before
from torpor.runtime.attempts import Work
from torpor.runtime.context import STARTING, STOPPING, Committed, Context, Health
from torpor.runtime.ending import ended, heed_cancelling, within
from torpor.runtime.injection import ASK, BROKER, SOCKETS
from torpor.runtime.lane import Intake
from torpor.runtime.metrics import Metrics
from torpor.runtime.policies import Policies
from torpor.runtime.receiver import Receiver, Reception
from torpor.runtime.tx import Envelope, Tx
from torpor.runtime.unit import Units

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from torpor.kernel.identity import Caller
    from torpor.kernel.message import Delivery
    from torpor.ports.broker import Broker
    from torpor.ports.clock import Clock
    from torpor.ports.consumer import Subscription
    from torpor.ports.exchange import Exchange
    from torpor.ports.shelf import Shelf
    from torpor.ports.store import Store
    from torpor.runtime.asking import Ask
    from torpor.runtime.idempotency import KeyedRequest
    from torpor.runtime.plan import Handled, Plan, SubscriberBinding
    from torpor.runtime.responding import Responder
    from torpor.runtime.sharing import Forgetting, SteadyShelf
    from torpor.runtime.subscriber import Subscriber
    from torpor.runtime.switchboard import Switchboard
    from torpor.runtime.traffic import Traffic

    Rest = Callable[["Host"], Awaitable[None]]  # returns once what was published is out, or cannot be for now

_PING_EVERY = 2.0
_LAST_WORDS = 10.0  # seconds that the duties have to finish, whatever the drain has left


class Duty(Protocol):
    """Background work of a host. A feature is one of these."""

    def committed(self, rows: Committed) -> None:
        """A unit has committed. Must not wait."""
        ...

    async def run(self, host: Host) -> None:
        """Does the work until it is cancelled. Comes back by itself when a broker or a database does."""
        ...

    async def finish(self, host: Host) -> None:
        """Ends the work in order, and does what a clean stop leaves to do. The handlers have come to rest."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do right now."""
        ...


class Host:
    """Runs one service on a broker and a store, from start to drain.

    `start` returns at once and brings the service up in the background: a broker or a database that is not there is
    waited for, and `is_ready` tells when all parts work. With `rest`, messages are not consumed but handed to the
    `reception`, which waits for it before it says that a message is done.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        broker: Broker,
        store: Store,
        clock: Clock,
        duties: Sequence[Duty] = (),
        exchange: Exchange | None = None,
        rest: Rest | None = None,
    ) -> None:
        self.plan = plan
        self.name = plan.name
        self.broker = broker
        self.store = store
        self.clock = clock
        self.duties = tuple(duties)
        self.log = logging.getLogger(f"torpor.{plan.name}")
        self.metrics = Metrics(plan.name)
        self.health = Health(self._tell)
        self.health.reasons["service"] = STARTING
        self._context = Context(
            clock=clock,
            metrics=self.metrics,
            health=self.health,
            envelope=Envelope(plan.name, clock=clock),
            committed=self.committed,
        )
        self._exchange = exchange
        self._traffic: Traffic | None = None  # until something passes through the broker that is not kept
        self._context.resources.update({ASK: self, BROKER: broker})
        self.shelf: SteadyShelf | None = None  # what the replicas share
        self._forgetting: Forgetting | None = None
        self._responders: dict[Handled, Responder] = {}
        self.sockets: Switchboard | None = None
        if plan.sockets:
            self._plug_in(exchange)
        self.deliverers: dict[str, Callable[[Delivery], None]] = {}
        self._intakes: list[Intake] = []
        self.reception = None if rest is None else Reception(partial(rest, self))
        self.subscribers: list[Subscriber] = []  # those that consume, one for each binding of a topic
        self.groups: Sequence[Subscription] = ()  # that must have begun before something is published
        self._tasks: list[asyncio.Task[None]] = []
        self._duty_tasks: list[asyncio.Task[None]] = []
        self._exits = AsyncExitStack()
        self._has_store = False
        self._is_up = False

    @property
    def ask(self) -> Ask:
        """Asks other services."""
        return self._passing().ask

    @property
    def is_ready(self) -> bool:
        """Whether every part works."""
        return self.health.is_good

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: no delivery in a lane, no duty with work to do."""
        is_busy = any(intake.under_way for intake in self._intakes)
        is_busy = is_busy or not (self._traffic is None or self._traffic.is_idle)
        is_busy = is_busy or not (self.sockets is None or self.sockets.is_idle)
        is_busy = is_busy or not (self._forgetting is None or self._forgetting.is_idle)
        return not is_busy and all(duty.is_idle for duty in self.duties)

    @property
    def lingers(self) -> float:
        """How long a batch handler waits for more, or a failing one pauses, when one does."""
        pauses = [feed.gate.pauses for feed in self._feeds if feed.intake.under_way]
        return max((*pauses, *(intake.lingers for intake in self._intakes)), default=0.0)

    def status(self) -> dict[str, Any]:
        """What readiness knows of each part, as JSON."""
        return {"ready": self.is_ready, "parts": self.health.status()}

    async def start(self) -> None:
        """Enters the lifespans, and begins to bring the service up."""
        for function in self.plan.lifespans:
            manager = asynccontextmanager(function)()
            self._context.resources[function] = await self._exits.enter_async_context(manager)
        self._tasks.append(self.health.watch("service", self._bring_up()))

    async def retire(self) -> None:
        """Takes no message more, and is ready no more; requests are still answered. The first half of a stop."""
        self.health.report("service", STOPPING)
        await ended(self._tasks)
        self._tasks.clear()
        others = [part.retire() for part in (self._traffic, self.sockets) if part is not None]
        await asyncio.gather(*others, *(feed.stop() for feed in self._feeds))

    async def stop(self, seconds: float = 25.0) -> None:
        """Drains: takes nothing new, finishes what is under way within so many seconds, lets go of everything."""
        await self.retire()
        is_drained = await within(seconds, self._drained())
        if not is_drained:
            passing = 0 if self._traffic is None else self._traffic.under_way
            self.log.warning("stopped with %d messages unfinished after %g s; they will come again",
                             sum(i.under_way for i in self._intakes) + passing, seconds)  # fmt: skip
        for intake in self._intakes:
            intake.abandon()
        if self._traffic is not None:
            self._traffic.abandon()
        if self._forgetting is not None:
            self._forgetting.abandon()
        if self.sockets is not None:
            await self.sockets.close()
        for receiver in self._receivers:
            receiver.abandon()
        if is_drained and self._is_up:
            await within(_LAST_WORDS, self._finished())
        await ended(self._duty_tasks)
        self._duty_tasks.clear()
        await self._exits.aclose()
        await self.broker.stop()
        await self.store.stop()

    def responder(self, handled: Handled) -> Responder:
        """What runs a handler of requests."""
        known = self._responders.get(handled)
        if known is None:
            from torpor.runtime.responding import Responder  # late: most services that wake for an event have no routes

            known = self._responders[handled] = Responder(handled, self._context, begin=self.transaction)
        return known

    def share(self, shelf: Shelf) -> None:
        """Gives the service a shelf, before it starts."""
        from torpor.runtime.sharing import Forgetting, SteadyShelf

        self.shelf = SteadyShelf(shelf, self._context)
        self._forgetting = Forgetting(self.shelf, self._context)

    def committed(self, rows: Committed) -> None:
        """Tells the duties what a unit has committed, and the others what was fleeting in it."""
        if rows.fleeting:
            self._passing().tell(rows.fleeting)
        if rows.forgotten and self._forgetting is not None:
            self._forgetting.put(rows.forgotten)
        if self.reception is not None:
            self.reception.committed(rows.published)
        for duty in self.duties:
            duty.committed(rows)

    @asynccontextmanager
    async def transaction(
        self, handled: Handled, request: KeyedRequest | None = None, *, caller: Caller | None = None
    ) -> AsyncIterator[Tx]:
        """A unit for a request. One with a key is looked up in it first, and its answer is kept in it; what is known
        of the key already is raised."""
        if not self._has_store:
            missing = self.health.reasons.get("store", STARTING)
            raise NotRunning(f"The database of {self.name!r} is not there yet: {missing}")
        async with self.store.unit() as unit:
            origin = None if request is None else request.origin
            envelope = self._context.envelope
            tx = Tx(unit, handled, envelope=envelope, message=None, request=origin, caller=caller)
            try:
                if request is not None:
                    await request.begin(unit.requests, handled.name, self.clock.time())
                yield tx
                await tx.finish()
            finally:
                await tx.close()
            if request is not None:
                await request.end(unit.requests, handled.name, self.clock.time())
            if tx.published or tx.timers:
                await unit.append(tx.published, [], tx.timers)
            try:
                await unit.commit()
            except StoreUnavailable:  # it may have been committed
                self.committed(Committed(forgotten=tx.forgotten))
                raise
        rows = Committed(len(tx.published), timers=len(tx.timers), fleeting=tx.fleeting, forgotten=tx.forgotten)
        self.committed(rows)
        if tx.forgotten and self._forgetting is not None:
            await self._forgetting.tried()  # who is answered, and asks again, sees what has changed

    def _plug_in(self, exchange: Exchange | None) -> None:
        """Makes ready for WebSockets."""
        from torpor.runtime.sockets import Sockets
        from torpor.runtime.switchboard import Switchboard

        self.sockets = Switchboard(self.plan, exchange, responder=self.responder, context=self._context)
        self._context.resources[SOCKETS] = Sockets(self.sockets.registry)

    def _passing(self) -> Traffic:
        """What passes through the broker and is not kept."""
        if self._traffic is None:
            from torpor.runtime.traffic import Traffic

            self._traffic = Traffic(self.plan, self._exchange, store=self.store, context=self._context)
        return self._traffic

    async def _drained(self) -> None:
        for intake in self._intakes:
            await intake.drained()
        if self.sockets is not None:
            await self.sockets.drained()
        if self._traffic is not None:
            await self._traffic.drained()
        if self._forgetting is not None:
            await self._forgetting.tried()

    async def _finished(self) -> None:
        await asyncio.gather(*(duty.finish(self) for duty in self.duties))

    async def _bring_up(self) -> None:
        await self._until("store", self.store.start)
        self._has_store = True
        if self.plan.needs_broker:
            await self._until("broker", self.broker.start)
        if self.plan.topics:
            await self._until("broker", lambda: self.broker.declare(self.plan.topics, ()))
            await self._until("broker", self._begin_groups)
        if self.shelf is not None:
            await self.shelf.warm()
        self._feed_all()
        if self.plan.uses_exchange:
            await self._until("broker", self._passing().open)
        if self.sockets is not None:
            await self._until("broker", self.sockets.open)
        self._duty_tasks += [self.health.watch(type(duty).__name__.lower(), duty.run(self)) for duty in self.duties]
        self._is_up = True
        self.health.report("service", None)
        self.log.info("%s is up", self.name)
        await self._look_after()

    async def _begin_groups(self) -> None:
        """Has those listen that run together with us, before we publish: a group is given what comes after its
        beginning, and what is told in the first second must not pass it by."""

        async def begin(group: Subscription) -> None:
            with suppress(ConfigurationError):  # its own consumer tells why
                try:
                    await self.broker.declare((), [group])
                except BrokerUnavailable:
                    await self.broker.ping()  # who is there refuses this group; else all is tried again

        for failure in await asyncio.gather(*map(begin, self.groups), return_exceptions=True):  # none is left behind
            if failure is not None:
                raise failure

    def _feed_all(self) -> None:
        """Makes what brings each handler what it is for."""
        for binding in self.plan.subscribers:
            units = Units(Work(binding.handled, binding.contract, binding.policies), self.store, self._context)
            feed = self._feed(binding, units)
            self._take_in(binding.handled.name, feed.intake)
            feed.start()
        for ticker in self.plan.tickers:
            units = Units(Work(ticker.handled, None, Policies(retry=ticker.retry)), self.store, self._context)
            spawn = partial(self.health.watch, ticker.handled.name)
            self._take_in(ticker.handled.name, Intake(units.run, spawn=spawn))

    async def _look_after(self) -> None:
        """Looks now and then whether all still work."""
        while True:
            await self.clock.sleep(_PING_EVERY)
            await self._ping()
            if self._traffic is not None:
                await self._traffic.look()
            if self.sockets is not None:
                await self.sockets.registry.look()

    @property
    def _feeds(self) -> list[Subscriber | Receiver]:
        return [*self.subscribers, *self._receivers]

    @property
    def _receivers(self) -> Sequence[Receiver]:
        return () if self.reception is None else (*self.reception.receivers.values(),)

    def _feed(self, binding: SubscriberBinding, units: Units) -> Subscriber | Receiver:
        """What brings a binding its messages: its own consumer, or requests."""
        if self.reception is None:
            from torpor.runtime.subscriber import Subscriber

            subscriber = Subscriber(binding, units, broker=self.broker, context=self._context)
            self.subscribers.append(subscriber)
            return subscriber
        is_stateless = not self.store.promises.is_transactional
        receiver = Receiver(binding, units, context=self._context, is_stateless=is_stateless)
        self.reception.receivers[binding.handled.name] = receiver
        return receiver

    def _take_in(self, name: str, intake: Intake) -> None:
        self._intakes.append(intake)
        self.deliverers[name] = lambda delivery: intake.put((delivery,))

    async def _until(self, part: str, begin: Callable[[], Awaitable[None]]) -> None:
        """Tries until a part works, telling why it does not."""
        failures = 0
        while True:
            try:
                await begin()
            except (BrokerUnavailable, StoreUnavailable, SchemaMismatch) as error:
                heed_cancelling()
                failures += 1
                self.health.report(part, str(error))
                await self.clock.sleep(wait_before(failures))
            else:
                self.health.report(part, None)
                return

    async def _ping(self) -> None:
        pings = {"store": self.store.ping}
        if self.plan.needs_broker:
            pings["broker"] = self.broker.ping
        for part, ping in pings.items():
            try:
                await ping()
            except (BrokerUnavailable, StoreUnavailable) as error:
                self.health.report(part, str(error))
            else:
                self.health.report(part, None)

    def _tell(self, part: str, reason: str | None) -> None:
        if reason is None:
            self.log.info("%s works again", part)
        else:
            self.log.warning("%s does not work: %s", part, reason)
