"""The unit: one transaction over a batch of deliveries, and what is done when one of them fails.

The good path takes no savepoints. When a handler fails, the unit is rolled back and replayed with a savepoint for each
message, so that a failure takes back its own work alone; the binding then stays careful for a while. An error of the
whole transaction splits the batch in halves, down to the one message that causes it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torpor.contract.codec import decode
from torpor.kernel.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DecodeError,
    Rejected,
    StatementFailed,
    StoreUnavailable,
)
from torpor.kernel.message import ParkedMessage, shown
from torpor.kernel.order import Order
from torpor.kernel.outcome import Failed, Park
from torpor.kernel.retry import wait_before
from torpor.runtime.context import Committed
from torpor.runtime.deferred import Deferred
from torpor.runtime.gate import Gate
from torpor.runtime.injection import Scope
from torpor.runtime.publishing import flattened
from torpor.runtime.tx import Tx

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from torpor.contract.event import Contract
    from torpor.kernel.message import Delivery, Message, Timer
    from torpor.ports.store import Store
    from torpor.ports.unit import Unit
    from torpor.runtime.context import Context
    from torpor.runtime.plan import Handled
    from torpor.runtime.policies import Policies

CAREFUL_UNITS = 32
_LONGEST_REASON = 2000
_BEHIND = {Order.KEY: "waits behind its key", Order.STRICT: "waits behind one before it"}


class HandlerFailed(Exception):  # an internal signal, not an error that is told
    """A handler failed on the path without savepoints: the unit is replayed with them."""

    def __init__(self, delivery: Delivery, error: Exception) -> None:
        super().__init__()
        self.delivery = delivery
        self.error = error


class SentLate(Exception):  # an internal signal: the unit is replayed with savepoints, which tells whose fault it was
    """A statement was refused that may be of any of the handlers that have handed over some."""


class ParkAsked(Exception):  # a handler's answer on its way to the savepoint, not an error
    """A handler returned `Park`."""


class Overtaken(Exception):  # an internal signal: the batch is halved, so that those behind come later
    """A batch handler has named an event as failed, and handled others behind it in its queue."""


class EventFailed(Exception):  # a handler's answer as the cause of an attempt, not an error that is raised
    """A batch handler has named an event that it could not handle."""


_FINAL = (DecodeError, ParkAsked)  # no further attempt can change these


class Work:
    """What a unit does with each delivery: the handler, the type of its payload, its policies."""

    __slots__ = ("contract", "handled", "is_batch", "order", "policies", "retry")

    def __init__(self, handled: Handled, contract: type[Contract] | None, policies: Policies) -> None:
        self.handled = handled
        self.contract = contract
        self.policies = policies
        self.retry = policies.retry
        self.order = policies.order
        self.is_batch = policies.batch is not None


class Effects:
    """What a unit will append, gathered while its handlers run."""

    __slots__ = (
        "blocked", "claimed", "deferred", "done", "duplicates", "fresh", "held", "parked", "published", "timers",
    )  # fmt: skip

    def __init__(self, deferred: Deferred | None = None) -> None:
        self.deferred = deferred  # what the handlers hand over, unless each of them sends its own
        self.published: list[Message] = []
        self.timers: list[Timer] = []
        self.parked: list[ParkedMessage] = []
        self.fresh: set[str] = set()
        self.blocked: set[str] = set()  # queues with a parked message from before this unit
        self.held: set[str] = set()  # queues in which this unit itself parks
        self.done = 0
        self.duplicates = 0
        self.claimed = 0


class Units:
    """Runs the units of one binding."""

    def __init__(self, work: Work, store: Store, context: Context) -> None:
        self._work = work
        self._store = store
        self._context = context
        self._log = logging.getLogger(f"torpor.{work.handled.service}")
        self._metrics = context.metrics.of(work.handled.name)
        self._careful = 0
        self.gate = Gate(work.policies.pause, name=work.handled.name, context=context)

    async def run(self, batch: Sequence[Delivery]) -> int:
        """Returns once the effects of the deliveries, or their parked copies, are durable: of all, or of the first few
        when the gate is shut meanwhile. Tells of how many."""
        done = 0
        while done < len(batch):
            permit, many = await self.gate.enter(len(batch) - done)
            if not many:
                break
            part = batch[done : done + many]
            self._metrics.in_flight += many
            try:
                await self._run(part)
            finally:
                self._metrics.in_flight -= many
            self.gate.leave(permit, part)
            done += many
        return done

    async def _run(self, batch: Sequence[Delivery]) -> None:
        lost = 0
        while True:
            try:
                await self._run_once(batch)
            except HandlerFailed as failure:
                if self._work.is_batch and len(batch) > 1:
                    self._found(lost)
                    await self._split(batch, failure.error)
                    return
                self._careful = CAREFUL_UNITS
                if not self._may_retry(failure.delivery, failure.error):
                    failure.delivery.fault = _reason(failure.error)
            except SentLate:
                self._careful = CAREFUL_UNITS
            except (StoreUnavailable, BrokerUnavailable) as error:
                lost += 1
                self._context.report(self._work.handled.name, str(error))
                await self._context.clock.sleep(wait_before(lost))
            except (StatementFailed, Rejected, Overtaken) as error:
                if len(batch) == 1 and batch[0].fault is not None:  # it cannot even be parked
                    lost += 1
                    self._context.report(self._work.handled.name, str(error))
                    await self._context.clock.sleep(wait_before(lost))
                    continue
                self._found(lost)
                await self._split(batch, error)
                return
            else:
                self._found(lost)
                return

    def _found(self, lost: int) -> None:
        """The database or the broker answers again."""
        if lost:
            self._context.report(self._work.handled.name, None)

    async def _run_once(self, batch: Sequence[Delivery]) -> None:
        started = self._context.clock.time()
        is_careful = self._careful or self._work.retry.isolated
        attempt = self._attempt_again if is_careful else self._attempt_once
        effects = Effects(None if is_careful or self._work.is_batch else Deferred())
        async with self._store.unit() as unit:
            arrived = [delivery.message for delivery in batch if delivery.parked is None]
            if arrived:
                admission = await unit.admit(self._work.handled.name, arrived, self._work.order.common_queue)
                effects.fresh, effects.blocked = set(admission.fresh), set(admission.blocked)
            if self._work.is_batch:
                await self._attempt_batch(unit, batch, effects)
            else:
                for delivery in batch:
                    if await self._is_next(unit, delivery, effects):
                        await attempt(unit, delivery, effects)
            if effects.deferred is not None:
                await _send(effects.deferred, unit)
            await unit.append(effects.published, effects.parked, effects.timers)
            await unit.commit()
        self._careful = max(0, self._careful - 1)
        self._count(effects, self._context.clock.time() - started)
        parked = len(effects.parked) + effects.claimed
        self._context.committed(Committed(len(effects.published), parked=parked, timers=len(effects.timers)))

    async def _is_next(self, unit: Unit, delivery: Delivery, effects: Effects) -> bool:
        """Whether a delivery is to be handled now: it is new, its queue is free, and its envelope could be read."""
        message = delivery.message
        delivery.outcome = None
        if delivery.parked is not None:
            if not await unit.claim(delivery.parked):
                return False
            effects.claimed += 1
        elif message.id not in effects.fresh:
            effects.duplicates += 1
            return False
        effects.fresh.discard(message.id)  # the same id may come twice in one batch
        queue = self._work.order.queue_of(message)
        is_behind = queue in effects.held or (delivery.parked is None and queue in effects.blocked)
        if is_behind and queue is not None:
            effects.parked.append(self._parked(delivery, _BEHIND[self._work.order], due_at=0.0))
            return False
        if delivery.fault is not None:
            self._park(delivery, delivery.fault, effects)
            return False
        return True

    async def _attempt_once(self, unit: Unit, delivery: Delivery, effects: Effects) -> None:
        """Handles a delivery without a way back: any failure ends the unit."""
        try:
            await self._handle(unit, delivery, effects)
        except (StoreUnavailable, BrokerUnavailable):
            raise
        except DecodeError as error:
            self._park(delivery, str(error), effects)
        except Exception as error:
            if effects.deferred is not None and effects.deferred.is_in_doubt:
                raise SentLate from error
            raise HandlerFailed(delivery, error) from error
        else:
            delivery.outcome = "succeeded"
            effects.done += 1

    async def _attempt_batch(self, unit: Unit, batch: Sequence[Delivery], effects: Effects) -> None:
        """Handles what is new of a batch in one call: a failure ends the unit, unless the handler names the failed."""
        events: list[Contract] = []
        ready: dict[int, Delivery] = {}
        for delivery in batch:
            if self._work.contract is None or not await self._is_next(unit, delivery, effects):
                continue
            try:
                event = decode(self._work.contract, delivery.message)
            except DecodeError as error:
                self._park(delivery, str(error), effects)
            else:
                events.append(event)
                ready[id(event)] = delivery
        if not events:
            return
        try:
            result = await self._call(unit, None, events, effects)
            failed = _named(result, ready) if isinstance(result, Failed) else []
            self._check_order(failed, ready.values())
        except (StoreUnavailable, BrokerUnavailable, Overtaken):
            raise
        except Exception as error:
            raise HandlerFailed(batch[0], error) from error
        for delivery in failed:
            self._fail(delivery, str(result.reason), effects)
        for delivery in ready.values():
            delivery.outcome = "succeeded"
        effects.done += len(ready)

    def _check_order(self, failed: Sequence[Delivery], done: Iterable[Delivery]) -> None:
        """Raises Overtaken unless nothing was handled behind a failed delivery of its queue."""
        queue_of = self._work.order.queue_of
        queues = {queue_of(delivery.message) for delivery in failed} - {None}
        if queues and any(queue_of(delivery.message) in queues for delivery in done):
            raise Overtaken

    def _fail(self, delivery: Delivery, reason: str, effects: Effects) -> None:
        """Sets aside a delivery that a batch handler has named: for another attempt at once, later, or never."""
        error = EventFailed(reason)
        if not self._may_retry(delivery, error):
            self._park(delivery, reason, effects)
            return
        self._set_aside(delivery, effects, reason=reason, due_at=self._context.clock.time())

    def _set_aside(self, delivery: Delivery, effects: Effects, *, reason: str, due_at: float | None) -> None:
        """Parks a failed delivery, and holds up its queue."""
        delivery.outcome = "failed"
        effects.parked.append(self._parked(delivery, reason, due_at=due_at))
        queue = self._work.order.queue_of(delivery.message)
        if queue is not None:
            effects.held.add(queue)

    async def _attempt_again(self, unit: Unit, delivery: Delivery, effects: Effects) -> None:
        """Handles a delivery behind a savepoint, again and again by its policy, and parks it when that fails."""
        await unit.savepoint()
        while True:
            try:
                await self._handle(unit, delivery, effects)
            except (StoreUnavailable, BrokerUnavailable):
                raise
            except Exception as error:  # noqa: BLE001  # whatever a handler raises is judged by its policy
                await unit.rollback_to_savepoint()
                if self._may_retry(delivery, error):
                    continue
                self._park(delivery, _reason(error), effects)
            else:
                delivery.outcome = "succeeded"
                effects.done += 1
            return

    def _may_retry(self, delivery: Delivery, error: Exception) -> bool:
        """Counts a failure; tells whether the policy allows another attempt."""
        delivery.attempts += 1
        delivery.error = error
        self._metrics.failed += 1
        return not isinstance(error, _FINAL) and self._work.retry.allows(error, delivery.attempts)

    async def _handle(self, unit: Unit, delivery: Delivery, effects: Effects) -> None:
        """Calls the handler for one delivery. Raises what it raised."""
        work, message = self._work, delivery.message
        payload = None if work.contract is None else decode(work.contract, message)
        await self._call(unit, message, payload, effects)

    async def _call(self, unit: Unit, message: Message | None, payload: Any, effects: Effects) -> Any:
        """Calls the handler, and gathers what it published; returns what it returned."""
        work = self._work
        tx = Tx(unit, work.handled, envelope=self._context.envelope, message=message, deferred=effects.deferred)
        scope = Scope(self._context.resources, tx=tx, payload=payload)
        try:
            result = await work.handled.call.invoke(scope, {})
            if isinstance(result, Park):
                raise ParkAsked(result.reason)
            for event in flattened(result):
                tx.publish(event)
            await tx.flush()
        finally:
            await tx.close()
        effects.published += tx.published
        effects.timers += tx.timers
        return result

    async def _split(self, batch: Sequence[Delivery], error: Exception) -> None:
        """Halves a batch whose transaction fails as a whole; parks the one that is left."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._run(batch[:middle])
            await self._run(batch[middle:])
            return
        batch[0].fault = _reason(error)
        await self._run(batch)

    def _park(self, delivery: Delivery, reason: str, effects: Effects) -> None:
        """Sets a delivery aside: until its next attempt, or for an operator."""
        error, due_at = delivery.error, None
        longest = None
        if error is not None and not isinstance(error, _FINAL):
            longest = self._work.retry.wait_after(error, delivery.attempts)
        if longest is not None:
            due_at = self._context.clock.time() + longest * self._context.jitter()
        self._set_aside(delivery, effects, reason=reason, due_at=due_at)
        self._log.log(
            logging.ERROR if due_at is None else logging.WARNING,
            "%s %s message %s: %s",
            self._work.handled.name,
            "parked" if due_at is None else "will try again",
            shown(delivery.message.id),
            reason,
            exc_info=error if due_at is None and not isinstance(error, _FINAL) else None,
        )

    def _parked(self, delivery: Delivery, reason: str, *, due_at: float | None = None) -> ParkedMessage:
        parked = ParkedMessage(
            self._work.handled.name,
            delivery.message,
            reason=reason,
            at=self._context.clock.time(),
            attempts=delivery.attempts,
            due_at=due_at,
            number=delivery.parked or 0,
        )
        parked.queue = self._work.order.queue_of(delivery.message)
        return parked

    def _count(self, effects: Effects, seconds: float) -> None:
        metrics = self._metrics
        metrics.done += effects.done
        metrics.duplicate += effects.duplicates
        metrics.parked += len(effects.parked)
        metrics.seconds.observe(seconds)


async def _send(deferred: Deferred, unit: Unit) -> None:
    """Sends what the handlers of a unit have left. Raises SentLate."""
    try:
        await deferred.send(unit.statements, are_of_several=True)
    except (StoreUnavailable, BrokerUnavailable):
        raise
    except Exception as error:  # whatever a database raises is one message's fault, and a replay tells whose
        raise SentLate from error
    if deferred.is_in_doubt:  # and the handler has gone on
        raise SentLate


def _named(result: Failed, ready: dict[int, Delivery]) -> list[Delivery]:
    """Takes the deliveries that a batch handler has named out of those that are ready."""
    named = {id(event) for event in result.events}
    if strangers := named - ready.keys():
        raise ConfigurationError(
            [f"Failed names {len(strangers)} events that were not handed over. Name those of the list, as they are."]
        )
    return [ready.pop(event) for event in list(ready) if event in named]


def _reason(error: Exception) -> str:
    name = "" if isinstance(error, _FINAL) else f"{type(error).__name__}: "
    return f"{name}{error}"[:_LONGEST_REASON]
