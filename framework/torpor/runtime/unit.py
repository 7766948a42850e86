"""The unit: one transaction over a batch of deliveries, and what is done when one of them fails.

The good path takes no savepoints. When a handler fails, the unit is rolled back and replayed with a savepoint for each
message, so that a failure takes back its own work alone; the binding then stays careful for a while. What comes again
goes in units of its own. An error of the whole transaction splits the batch in halves, down to the one message that
causes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, Rejected, StatementFailed, StoreUnavailable
from torpor.kernel.order import Order
from torpor.kernel.retry import wait_before
from torpor.runtime.attempts import Attempts, HandlerFailed, Overtaken, SentLate, reason_of
from torpor.runtime.context import Committed
from torpor.runtime.deferred import Deferred
from torpor.runtime.effects import Effects
from torpor.runtime.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery
    from torpor.ports.store import Store
    from torpor.ports.unit import Unit
    from torpor.runtime.attempts import Ready, Work
    from torpor.runtime.context import Context

CAREFUL_UNITS = 8
_BEHIND = {Order.KEY: "waits behind its key", Order.STRICT: "waits behind one before it"}


class Units:
    """Runs the units of one binding."""

    def __init__(self, work: Work, store: Store, context: Context) -> None:
        self._work = work
        self._store = store
        self._context = context
        self._metrics = context.metrics.of(work.handled.name)
        self._attempts = Attempts(work, context)
        self._is_always_careful = work.retry.isolated or work.is_apart
        self._is_light = self._attempts.is_straight and not store.promises.is_transactional
        self._careful = 0
        self.gate = Gate(work.policies.pause, name=work.handled.name, context=context)

    async def run(self, batch: Sequence[Delivery]) -> int:
        """Returns once the effects of the deliveries, or their parked copies, are durable: of all, or of the first few
        when the gate is shut meanwhile. Tells of how many."""
        done, gate = 0, self.gate
        while done < len(batch):
            many = len(batch) - done
            permit = gate.permit
            if permit is None:
                permit, many = await gate.enter(many)
            if not many:
                break
            part = batch[done : done + many]
            self._metrics.in_flight += many
            try:
                for piece in (part,) if many == 1 else _apart(part):
                    await self._run(piece)
            finally:
                self._metrics.in_flight -= many
            gate.leave(permit, part)
            done += many
        return done

    async def _run(self, batch: Sequence[Delivery]) -> None:
        lost = 0
        run_once = self._run_light if self._is_light else self._run_once
        while True:
            try:
                await run_once(batch)
            except HandlerFailed as failure:
                if self._work.is_batch and len(batch) > 1:
                    self._found(lost)
                    await self._split(batch, failure.error)
                    return
                self._careful = CAREFUL_UNITS
                if not self._attempts.may_retry(failure.delivery, failure.error):
                    failure.delivery.fault = reason_of(failure.error)
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
        is_careful = self._is_always_careful or self._careful > 0 or _has_failed(batch)
        effects = Effects(None if is_careful or self._work.is_batch else Deferred())
        async with self._store.unit() as unit:
            arrived = [delivery.message for delivery in batch if delivery.parked is None]
            if arrived:
                admission = await unit.admit(self._work.handled.name, arrived, self._work.order.common_queue)
                effects.fresh, effects.blocked = set(admission.fresh), set(admission.blocked)
            await self._attempt(unit, batch, effects, is_careful=is_careful)
            if effects.deferred is not None:
                await _send(effects.deferred, unit)
            await unit.append(effects.published, effects.parked, effects.timers)
            try:
                await unit.commit()
            except StoreUnavailable:  # it may have been committed, and is then not done again
                self._context.committed(Committed(forgotten=effects.forgotten))
                raise
        self._careful = max(0, self._careful - 1)
        self._end(effects, started)

    async def _run_light(self, batch: Sequence[Delivery]) -> None:
        """As `_run_once`, for a handler that asks for its event alone, and no database: there is nothing to ask of it,
        and most leave nothing behind."""
        started = self._context.clock.time()
        effects = Effects()
        effects.fresh = {delivery.message.id for delivery in batch}
        async with self._store.unit() as unit:
            await self._attempt(unit, batch, effects, is_careful=True)
            if not effects.is_nothing:
                await unit.append(effects.published, effects.parked, effects.timers)
                await unit.commit()
        self._end(effects, started)

    def _end(self, effects: Effects, started: float) -> None:
        """Counts what a unit has done, and tells what it has left."""
        self._count(effects, self._context.clock.time() - started)
        if effects.is_nothing:
            return
        parked = len(effects.parked) + effects.claimed
        rows = Committed(
            len(effects.published),
            parked=parked,
            timers=len(effects.timers),
            fleeting=effects.fleeting,
            forgotten=effects.forgotten,
        )
        self._context.committed(rows)

    async def _attempt(self, unit: Unit, batch: Sequence[Delivery], effects: Effects, *, is_careful: bool) -> None:
        """Has those of a batch handled whose turn it is."""
        if self._attempts.is_straight and len(effects.fresh) == len(batch) and not effects.blocked:
            batch = batch[await self._attempts.straight(unit, batch, effects) :]
        if not batch:
            return
        ready: Ready = {}
        attempt = self._attempts.again if is_careful else self._attempts.once
        for delivery in batch:
            delivery.outcome = None
            if delivery.parked is not None:
                if not await unit.claim(delivery.parked):
                    continue
                effects.claimed += 1
            if not self._is_next(delivery, effects):
                continue
            if self._work.is_batch:
                self._attempts.read(delivery, effects, ready)
            else:
                await attempt(unit, delivery, effects)
        await self._attempts.batch(unit, ready, effects)

    def _is_next(self, delivery: Delivery, effects: Effects) -> bool:
        """Whether a delivery is to be handled now: it is new, its queue is free, and its envelope could be read."""
        message = delivery.message
        if delivery.parked is None and message.id not in effects.fresh:
            effects.duplicates += 1
            return False
        effects.fresh.discard(message.id)  # the same id may come twice in one batch
        if effects.held or effects.blocked:
            queue = self._work.order.queue_of(message)
            is_behind = queue in effects.held or (delivery.parked is None and queue in effects.blocked)
            if is_behind and queue is not None:
                behind = self._attempts.parked(delivery, _BEHIND[self._work.order], due_at=0.0)
                effects.parked.append(behind)
                return False
        if delivery.fault is not None:
            self._attempts.park(delivery, delivery.fault, effects)
            return False
        return True

    async def _split(self, batch: Sequence[Delivery], error: Exception) -> None:
        """Halves a batch whose transaction fails as a whole; parks the one that is left."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._run(batch[:middle])
            await self._run(batch[middle:])
            return
        batch[0].fault = reason_of(error)
        await self._run(batch)

    def _count(self, effects: Effects, seconds: float) -> None:
        metrics = self._metrics
        metrics.done += effects.done
        metrics.duplicate += effects.duplicates
        metrics.parked += len(effects.parked)
        metrics.seconds.observe(seconds)


def _apart(batch: Sequence[Delivery]) -> list[Sequence[Delivery]]:
    """What comes again goes first, and in a unit of its own: it is before the others of its queue, and what fails once
    more is not to take back what others have done."""
    again = [delivery for delivery in batch if delivery.parked is not None]
    if not again or len(again) == len(batch):
        return [batch]
    return [again, [delivery for delivery in batch if delivery.parked is None]]


def _has_failed(batch: Sequence[Delivery]) -> bool:
    """Whether one of those that come again has failed before."""
    return any(delivery.parked is not None and delivery.attempts for delivery in batch)


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
