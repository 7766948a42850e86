"""Old faults, put back into a service's process through the seams of its adapters and duties: each breaks one rule.

A process of the chaos run takes the one that CHAOS_MUTANT names. Only the tests of the chaos run set it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.pin import Pin
from torpor.adapters.postgres.outbox import PostgresOutbox
from torpor.adapters.postgres.unit import PostgresUnit
from torpor.features.redrive import Redriver
from torpor.features.relay import Relay
from torpor.ports.unit import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.kernel.message import Delivery, Message
    from torpor.ports.consumer import Consumer
    from torpor.ports.outbox import LogEntry
    from torpor.runtime.host import Host

_PAUSE = 0.3  # in which a fault may hit
_COPIES = 5

_admit = PostgresUnit.admit
_append = PostgresUnit.append
_advance = PostgresOutbox.advance
_consume = JetStreamBroker.consume
_start = JetStreamBroker.start
_publish = Relay._publish


async def _admit_all(unit: PostgresUnit, binding: str, messages: Sequence[Message], *more: Any) -> Admission:
    """An inbox that takes every message for a new one."""
    admission = await _admit(unit, binding, messages, *more)
    return Admission({message.id for message in messages}, admission.blocked)


async def _admit_past_the_parked(unit: PostgresUnit, *arguments: Any) -> Admission:
    """An admission that does not tell which keys have a parked message before them."""
    return Admission((await _admit(unit, *arguments)).fresh, ())


class HastyConsumer:
    """A consumer that acknowledges what it hands out, before anything is done with it."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner
        self.release = inner.release
        self.stop = inner.stop

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self._inner.fetch(limit)
        await self._inner.acknowledge(deliveries)
        await asyncio.sleep(_PAUSE)
        return deliveries

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """It was done before."""


async def _consume_hastily(broker: JetStreamBroker, subscription: Any) -> HastyConsumer:
    return HastyConsumer(await _consume(broker, subscription))


async def _start_and_be_known(broker: JetStreamBroker) -> None:
    PostgresUnit.broker = broker  # type: ignore[attr-defined]
    await _start(broker)


async def _append_and_publish(unit: PostgresUnit, messages: Sequence[Message], *more: Any) -> None:
    """Messages that do not wait for their commit."""
    await PostgresUnit.broker.publish(messages)  # type: ignore[attr-defined]
    await _append(unit, messages, *more)


async def _advance_before(relay: Relay, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
    """A relay that moves its cursor before it publishes."""
    await host.store.outbox.advance({entry.shard: entry.position for entry in entries}, epoch)
    await asyncio.sleep(_PAUSE)
    await _publish(relay, host, entries, epoch)


async def _publish_many_times(relay: Relay, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
    """A relay that repeats itself."""
    for _ in range(_COPIES):
        await host.broker.publish([entry.message for entry in entries])
    await _publish(relay, host, entries, epoch)


async def _redrive_nothing(redriver: Redriver, host: Host) -> None:
    """A redriver that never looks."""
    await asyncio.Event().wait()


async def _advance_slowly(outbox: PostgresOutbox, positions: Mapping[int, int], epoch: int, *more: Any) -> None:
    """A cursor that moves a while after its messages were published: what the fence is for."""
    await asyncio.sleep(_PAUSE)
    await _advance(outbox, positions, epoch, *more)


async def _advance_plainly(outbox: PostgresOutbox, positions: Mapping[int, int], epoch: int, *more: Any) -> None:
    """A cursor that is set by whoever has published, as a relay without epochs does."""
    await asyncio.sleep(_PAUSE)
    for shard, position in positions.items():
        await outbox._database.execute("UPDATE torpor_cursor SET pos = $2 WHERE shard = $1", shard, position)


async def _advance_and_fall_back(outbox: PostgresOutbox, positions: Mapping[int, int], epoch: int, *more: Any) -> None:
    """A cursor that a late writer moves back."""
    await _advance(outbox, positions, epoch, *more)
    if len(positions) > 1:
        await outbox._database.execute("UPDATE torpor_cursor SET pos = pos - 1 WHERE shard = $1", min(positions))


async def _begin_anywhere(pin: Pin) -> None:
    """A takeover that leaves what the former consumer held to the broker's ack wait, behind younger messages."""


def _put(owner: type, name: str, function: Callable[..., Any]) -> Callable[[], None]:
    return lambda: setattr(owner, name, function)


FAULTS: dict[str, tuple[Callable[[], None], ...]] = {
    "no-inbox": (_put(PostgresUnit, "admit", _admit_all),),
    "no-sequence": (_put(PostgresUnit, "admit", _admit_past_the_parked),),
    "early-acknowledgement": (_put(JetStreamBroker, "consume", _consume_hastily),),
    "early-publishing": (
        _put(JetStreamBroker, "start", _start_and_be_known),
        _put(PostgresUnit, "append", _append_and_publish),
    ),
    "early-cursor": (_put(Relay, "_publish", _advance_before),),
    "repeating-relay": (_put(Relay, "_publish", _publish_many_times),),
    "no-redriver": (_put(Redriver, "run", _redrive_nothing),),
    "falling-cursor": (_put(PostgresOutbox, "advance", _advance_and_fall_back),),
    "slow-relay": (_put(PostgresOutbox, "advance", _advance_slowly),),  # no fault: what the next is compared with
    "no-takeover": (_put(Pin, "reset", _begin_anywhere),),
    "no-fence": (_put(PostgresOutbox, "advance", _advance_plainly),),
}


def put_back(name: str) -> None:
    """Puts an old fault back into this process."""
    for change in FAULTS[name]:
        change()
