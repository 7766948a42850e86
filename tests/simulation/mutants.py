"""Old faults, put back through the seams of the simulation: stores, brokers and duties that break one rule each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from torpor.adapters.memory.broker import MemoryBroker
from torpor.adapters.memory.store import MemoryLeases, MemoryOutbox, MemoryParking, MemoryStore, MemoryUnit
from torpor.assembly import duties_of
from torpor.features.redrive import Redriver
from torpor.features.relay import Relay
from torpor.ports.outbox import LogEntry
from torpor.ports.unit import Admission
from torpor.runtime.host import Host
from torpor.runtime.receiver import Reception, Verdict
from torpor.testing.simulation import Parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.memory.broker import MemoryHub
    from torpor.kernel.message import Delivery, Message, ParkedMessage, Timer
    from torpor.ports.clock import Clock
    from torpor.ports.consumer import Consumer, Subscription
    from torpor.ports.outbox import OutboxLog
    from torpor.runtime.host import Duty
    from torpor.runtime.plan import Plan


class ForgetfulUnit(MemoryUnit):
    """An inbox that takes every message for a new one."""

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        admission = await super().admit(binding, messages, queue)
        return Admission({message.id for message in messages}, admission.blocked)


class JostlingUnit(MemoryUnit):
    """An admission that does not tell which keys have a parked message before them."""

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        return Admission((await super().admit(binding, messages, queue)).fresh, ())


class HastyUnit(MemoryUnit):
    """A unit whose outbox rows do not wait for its commit."""

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        await super().append((), parked, timers)
        for message in messages:
            self._tables.last_position += 1
            self._tables.outbox[self._tables.last_position] = message, self._tables.clock.time()


class GenerousUnit(MemoryUnit):
    """A claim that everybody wins, whoever was first."""

    async def claim(self, number: int) -> bool:
        await super().claim(number)
        return True


class HastyTimerUnit(MemoryUnit):
    """A unit whose timers do not wait for its commit."""

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        await super().append(messages, parked)
        self._tables.timers.update({timer.name: timer for timer in timers})


class ShuffledOutbox(MemoryOutbox):
    """An outbox that is read by something else than the order of commits."""

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        entries = await super().pending(limit, epoch, past)
        messages = [entry.message for entry in entries][::-1]
        return [LogEntry(e.shard, e.position, m) for e, m in zip(entries, messages, strict=True)]


class TalkativeOutbox(MemoryOutbox):
    """An outbox that is read by whoever asks."""

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        return await super().pending(limit, past=past)


class GappyOutbox(MemoryOutbox):
    """An outbox that, read ahead, begins a row too late."""

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        return (await super().pending(limit, epoch, past))[1 if past else 0 :]


class UnfencedOutbox(TalkativeOutbox):
    """A cursor that moves for whoever asks."""

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        await super().advance(positions, self._tables.leases["keeper"].epoch, parked)


class RewindingOutbox(MemoryOutbox):
    """A cursor that a late writer moves back, once."""

    is_rewound = False

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        await super().advance(positions, epoch, parked)
        if not self.is_rewound and self._tables.cursor > 1:
            self.is_rewound = True
            self._tables.cursor -= 1


class EagerParking(MemoryParking):
    """A parking lot that lets any row of a key be tried, and not only its first."""

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        return [row for row in self._rows() if row.due_at is not None and row.due_at <= now][:limit]


class BackwardLeases(MemoryLeases):
    """Leases whose epoch falls with each takeover."""

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        epoch = await super().acquire(name, holder, seconds)
        return None if epoch is None else 1000 - epoch


class HastyConsumer:
    """A consumer that acknowledges what it hands out, before anything is done with it."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner
        self.acknowledge = inner.acknowledge
        self.release = inner.release
        self.stop = inner.stop
        self.progress = inner.progress

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self._inner.fetch(limit)
        await self._inner.acknowledge(deliveries)
        return deliveries


class HastyBroker(MemoryBroker):
    """A broker with hasty consumers."""

    async def consume(self, subscription: Subscription) -> Consumer:  # type: ignore[override]  # stands in for it
        return HastyConsumer(await super().consume(subscription))


class BoldRelay(Relay):
    """A relay that moves its cursor before it publishes."""

    async def _publish(self, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
        positions = {entry.shard: entry.position for entry in entries}
        await host.store.outbox.advance(positions, epoch)
        await super()._publish(host, entries, epoch)


class CarelessRelay(Relay):
    """A relay that drops what the broker refuses."""

    def _set_aside(
        self, host: Host, refused: Sequence[tuple[Message, str]], behind: Sequence[Message]
    ) -> Sequence[ParkedMessage]:
        """Nothing is set aside."""
        return ()


class HeedlessRelay(Relay):
    """A relay that judges what it has read ahead by what was refused when it was read."""

    _late: frozenset[str] = frozenset()

    async def _publish(self, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
        known = frozenset(self._held)
        await super()._publish(host, entries, epoch)
        refused = self._held - known
        self._held = {*known, *self._late}
        self._has_parked = bool(self._held)
        self._late = frozenset(refused)


class RepeatingRelay(Relay):
    """A relay that publishes everything many times."""

    async def _publish(self, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
        await host.broker.publish([entry.message for entry in entries for _ in range(20)])
        await super()._publish(host, entries, epoch)


def storing(
    *,
    unit: type[MemoryUnit] = MemoryUnit,
    outbox: type[MemoryOutbox] = MemoryOutbox,
    parking: type[MemoryParking] = MemoryParking,
    leases: type[MemoryLeases] = MemoryLeases,
) -> Parts:
    """Parts with a store of which one table or the unit is another."""

    class Store(MemoryStore):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.outbox: OutboxLog = outbox(self._tables)
            self.parking = parking(self._tables)
            self.leases = leases(self._tables)

        def unit(self) -> MemoryUnit:
            self._tables.check_open()
            return unit(self._tables)

    return Parts(store=Store)


def relaying(relay: type[Relay]) -> Parts:
    """Parts with another relay."""

    def duties(plan: Plan) -> list[Duty]:
        return [relay(duty.lease) if isinstance(duty, Relay) else duty for duty in duties_of(plan)]

    return Parts(duties=duties)


def without_redriver() -> Parts:
    """Parts in which nobody tries parked messages again."""
    return Parts(duties=lambda plan: [duty for duty in duties_of(plan) if not isinstance(duty, Redriver)])


def hasty() -> Parts:
    """Parts that acknowledge before the commit."""

    def broker(hub: MemoryHub) -> MemoryBroker:
        return HastyBroker(hub)

    return Parts(broker=broker)


class HastyReception(Reception):
    """A reception that says a push is done when it has come."""

    async def receive(self, handler: str, arrivals: Sequence[tuple[Message, str | None]]) -> Verdict:
        asyncio.ensure_future(super().receive(handler, arrivals))  # noqa: RUF006  # nobody waits for it: the fault
        await asyncio.sleep(0)
        return Verdict.DONE


class HastyHost(Host):
    """A host with such a reception."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.reception is not None:
            self.reception = HastyReception(self.reception._rest)


def answering_at_once() -> Parts:
    """Hosts that answer a push before it is committed."""
    return Parts(host=HastyHost)
