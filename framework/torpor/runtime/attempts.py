"""Attempts: a binding's handler is tried with deliveries, and its failures are judged by its policies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torpor.contract.codec import decoder_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, DecodeError, StoreUnavailable
from torpor.kernel.message import ParkedMessage, shown
from torpor.kernel.outcome import Failed, Park
from torpor.runtime.injection import Scope
from torpor.runtime.publishing import flattened
from torpor.runtime.tx import Tx

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from typing import Any

    from torpor.contract.event import Contract
    from torpor.kernel.message import Delivery, Message
    from torpor.ports.unit import Unit
    from torpor.runtime.context import Context
    from torpor.runtime.effects import Effects
    from torpor.runtime.plan import Handled
    from torpor.runtime.policies import Policies

    Hand = Callable[[Any], Awaitable[Any]]
    Ready = dict[int, tuple[Contract, Delivery]]  # the events of a batch, by their identity

_LONGEST_REASON = 2000


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

    @property
    def is_apart(self) -> bool:
        """Whether the handler leaves nothing in the unit before it has returned: a failure has nothing to take back."""
        return not (self.is_batch or self.handled.call.uses_tx)


class Attempts:
    """Hands the deliveries of a unit to one binding's handler."""

    __slots__ = ("_context", "_hand", "_is_apart", "_log", "_metrics", "_read", "_work")

    def __init__(self, work: Work, context: Context) -> None:
        self._work = work
        self._context = context
        self._is_apart = work.is_apart
        self._hand = None if work.is_batch else _handing(work.handled)
        self._read = None if work.contract is None else decoder_of(work.contract)
        self._log = logging.getLogger(f"torpor.{work.handled.service}")
        self._metrics = context.metrics.of(work.handled.name)

    async def once(self, unit: Unit, delivery: Delivery, effects: Effects) -> None:
        """Handles a delivery without a way back: any failure ends the unit."""
        try:
            await self._handle(unit, delivery, effects)
        except (StoreUnavailable, BrokerUnavailable):
            raise
        except DecodeError as error:
            self.park(delivery, str(error), effects)
        except Exception as error:
            if effects.deferred is not None and effects.deferred.is_in_doubt:
                raise SentLate from error
            raise HandlerFailed(delivery, error) from error

    async def again(self, unit: Unit, delivery: Delivery, effects: Effects) -> None:
        """Handles a delivery again and again by its policy, with a way back, and parks it when that fails."""
        if self.is_straight:
            await self.straight(unit, (delivery,), effects)
            return
        if not self._is_apart:
            await unit.savepoint()
        while True:
            try:
                await self._handle(unit, delivery, effects)
            except (StoreUnavailable, BrokerUnavailable):
                raise
            except Exception as error:  # noqa: BLE001  # whatever a handler raises is judged by its policy
                if not self._is_apart:
                    await unit.rollback_to_savepoint()
                if not self._gives_up(delivery, error, effects):
                    continue
            return

    @property
    def is_straight(self) -> bool:
        """Whether the handler asks for its event, and for nothing else."""
        return self._hand is not None

    async def straight(self, unit: Unit, batch: Sequence[Delivery], effects: Effects) -> int:
        """As `again` for each of a batch, up to the first that is set aside or has a fault; returns how many were
        handled or set aside. For a handler that asks for its event alone: there is no call here but its own."""
        hand, read, many = self._hand, self._read, 0
        if hand is None or read is None:
            return 0
        while many < len(batch) and (delivery := batch[many]).fault is None:
            try:
                result = await hand(read(delivery.message))
                if result is not None:
                    await self._gather(self._tx(unit, delivery.message, effects), result, effects)
            except (StoreUnavailable, BrokerUnavailable):
                raise
            except Exception as error:  # noqa: BLE001  # whatever a handler raises is judged by its policy
                if self._gives_up(delivery, error, effects):
                    effects.done += many
                    return many + 1
            else:
                delivery.outcome = "succeeded"
                many += 1
        effects.done += many
        return many

    def read(self, delivery: Delivery, effects: Effects, ready: Ready) -> None:
        """Adds a delivery's event to those of a batch; parks one that cannot be read."""
        if self._read is None:
            return
        try:
            event = self._read(delivery.message)
        except DecodeError as error:
            self.park(delivery, str(error), effects)
        else:
            ready[id(event)] = (event, delivery)

    async def batch(self, unit: Unit, ready: Ready, effects: Effects) -> None:
        """Handles events in one call: a failure ends the unit, unless the handler names the failed."""
        if not ready:
            return
        events = [event for event, _ in ready.values()]
        try:
            result = await self._call(unit, None, events, effects)
            failed = _named(result, ready) if isinstance(result, Failed) else []
            done = [delivery for _, delivery in ready.values()]
            self._check_order(failed, done)
        except (StoreUnavailable, BrokerUnavailable, Overtaken):
            raise
        except Exception as error:
            raise HandlerFailed(next(iter(ready.values()))[1], error) from error
        for delivery in failed:
            self._fail(delivery, str(result.reason), effects)
        for delivery in done:
            delivery.outcome = "succeeded"
        effects.done += len(done)

    def may_retry(self, delivery: Delivery, error: Exception) -> bool:
        """Counts a failure; tells whether the policy allows another attempt."""
        delivery.attempts += 1
        delivery.error = error
        self._metrics.failed += 1
        return not isinstance(error, _FINAL) and self._work.retry.allows(error, delivery.attempts)

    def _gives_up(self, delivery: Delivery, error: Exception, effects: Effects) -> bool:
        """Counts a failure, and sets the delivery aside unless the policy allows another attempt at once."""
        if self.may_retry(delivery, error):
            return False
        self.park(delivery, reason_of(error), effects)
        return True

    def park(self, delivery: Delivery, reason: str, effects: Effects) -> None:
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

    def parked(self, delivery: Delivery, reason: str, *, due_at: float | None = None) -> ParkedMessage:
        """The row of a delivery that is set aside."""
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

    async def _handle(self, unit: Unit, delivery: Delivery, effects: Effects) -> None:
        """Calls the handler for one delivery. Raises what it raised."""
        message = delivery.message
        payload = None if self._read is None else self._read(message)
        await self._call(unit, message, payload, effects)
        delivery.outcome = "succeeded"
        effects.done += 1

    async def _call(self, unit: Unit, message: Message | None, payload: Any, effects: Effects) -> Any:
        """Calls the handler, and gathers what it published; returns what it returned."""
        tx = self._tx(unit, message, effects)
        scope = Scope(self._context.resources, tx=tx, payload=payload)
        try:
            result = await self._work.handled.call.invoke(scope, {})
            await self._gather(tx, result, effects)
        finally:
            await tx.close()
        return result

    def _tx(self, unit: Unit, message: Message | None, effects: Effects) -> Tx:
        envelope = self._context.envelope
        return Tx(unit, self._work.handled, envelope=envelope, message=message, deferred=effects.deferred)

    async def _gather(self, tx: Tx, result: Any, effects: Effects) -> None:
        """Adds to the unit what a handler has returned and published."""
        if isinstance(result, Park):
            raise ParkAsked(result.reason)
        await tx.finish(flattened(result))
        effects.published += tx.published
        effects.fleeting += tx.fleeting
        effects.timers += tx.timers
        effects.forgotten |= tx.forgotten

    def _check_order(self, failed: Sequence[Delivery], done: Iterable[Delivery]) -> None:
        """Raises Overtaken unless nothing was handled behind a failed delivery of its queue."""
        queue_of = self._work.order.queue_of
        queues = {queue_of(delivery.message) for delivery in failed} - {None}
        if queues and any(queue_of(delivery.message) in queues for delivery in done):
            raise Overtaken

    def _fail(self, delivery: Delivery, reason: str, effects: Effects) -> None:
        """Sets aside a delivery that a batch handler has named: for another attempt at once, later, or never."""
        error = EventFailed(reason)
        if not self.may_retry(delivery, error):
            self.park(delivery, reason, effects)
            return
        self._set_aside(delivery, effects, reason=reason, due_at=self._context.clock.time())

    def _set_aside(self, delivery: Delivery, effects: Effects, *, reason: str, due_at: float | None) -> None:
        """Parks a failed delivery, and holds up its queue."""
        delivery.outcome = "failed"
        row = self.parked(delivery, reason, due_at=due_at)
        effects.parked.append(row)
        if row.queue is not None:
            effects.held.add(row.queue)


def _handing(handled: Handled) -> Hand | None:
    """How to call a handler that asks for its event and for nothing else. By place, if that can be: it costs half of a
    call by name."""
    name, function = handled.call.only_payload, handled.function
    if name is None:
        return None
    code = getattr(function, "__code__", None)
    if code is not None and code.co_argcount and code.co_varnames[0] == name:
        return function
    return lambda event: function(**{name: event})


def reason_of(error: Exception) -> str:
    """An error as the reason of a parked message."""
    name = "" if isinstance(error, _FINAL) else f"{type(error).__name__}: "
    return f"{name}{error}"[:_LONGEST_REASON]


def _named(result: Failed, ready: Ready) -> list[Delivery]:
    """Takes the deliveries that a batch handler has named out of those that are ready."""
    named = {id(event) for event in result.events}
    if strangers := named - ready.keys():
        raise ConfigurationError(
            [f"Failed names {len(strangers)} events that were not handed over. Name those of the list, as they are."]
        )
    return [ready.pop(event)[1] for event in list(ready) if event in named]
