"""Old faults, put back into a service's process through the seams of its adapters and duties: each breaks one rule.

A process of the chaos run takes the one that CHAOS_MUTANT names. Only the tests of the chaos run set it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from random import randrange
from typing import TYPE_CHECKING, Any
from zlib import crc32

from torpor.adapters.kafka import publisher
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.connection import Connection
from torpor.adapters.kafka.options import KafkaOptions
from torpor.adapters.kafka.partition import Partition
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.core import CoreExchange
from torpor.adapters.nats.pin import Pin
from torpor.adapters.postgres.outbox import PostgresOutbox
from torpor.adapters.postgres.requests import PostgresRequests
from torpor.adapters.postgres.unit import PostgresUnit
from torpor.features.redrive import Redriver
from torpor.features.relay import Relay
from torpor.ports.requests import Turn
from torpor.ports.unit import Admission
from torpor.runtime.answering import Answering

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiokafka import AIOKafkaProducer

    from torpor.adapters.kafka.consumer import KafkaConsumer
    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Delivery, Message
    from torpor.ports.consumer import Consumer
    from torpor.ports.exchange import Heard
    from torpor.ports.outbox import LogEntry
    from torpor.runtime.host import Host

_PAUSE = 0.3  # in which a fault may hit
_COPIES = 5
_SLOW_SHARE = 4  # one key in so many
_FOR_EVER = 3600.0

_admit = PostgresUnit.admit
_append = PostgresUnit.append
_advance = PostgresOutbox.advance
_consume = JetStreamBroker.consume
_start = JetStreamBroker.start
_publish = Relay._publish
_take = PostgresRequests.take
_fetch = KafkaBroker.consume
_finish = Partition.finish
_make = KafkaBroker.__init__
_hear = Answering.take
_tell = CoreExchange.tell


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
        self.progress = inner.progress

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


class FetchingIsEnough:
    """A consumer that commits what it has fetched, as Kafka's clients do by themselves."""

    def __init__(self, inner: KafkaConsumer) -> None:
        self._inner = inner
        self.release = inner.release
        self.stop = inner.stop
        self.progress = inner.progress

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self._inner.fetch(limit)
        await self._inner.acknowledge(deliveries)
        await self._inner._commit_quietly()
        await asyncio.sleep(_PAUSE)
        return deliveries

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """It was done before."""


async def _consume_by_fetching(broker: KafkaBroker, subscription: Any) -> FetchingIsEnough:
    return FetchingIsEnough(await _fetch(broker, subscription))


async def _admit_slowly(unit: PostgresUnit, binding: str, messages: Sequence[Message], *more: Any) -> Admission:
    """Some keys that take longer than others, so that what comes later is done before."""
    if any(crc32((message.key or "").encode()) % _SLOW_SHARE == 0 for message in messages):
        await asyncio.sleep(2 * _PAUSE)
    return await _admit(unit, binding, messages, *more)


def _finish_all_before(partition: Partition, offset: int) -> None:
    """A watermark that is the last that was done, past others that are not."""
    while partition.watermark <= offset and partition._pending:
        _finish(partition, partition.watermark)


def _produce_without_confirmation(connection: Connection) -> AIOKafkaProducer:
    """A producer that is content once it has sent something."""
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(**connection._known, acks=0)


def _any_partition(key: bytes) -> int:
    """A place for a message that its key does not decide."""
    return randrange(len(key) + 1_000)


def _make_without_timeouts(broker: KafkaBroker, options: KafkaOptions | None = None) -> None:
    """A broker that waits for each answer, however long."""
    patient = {"request_timeout": _FOR_EVER, "publish_timeout": _FOR_EVER, "connect_timeout": _FOR_EVER}
    _make(broker, replace(options or KafkaOptions(), **patient))  # type: ignore[arg-type]  # all are numbers


async def _take_without_memory(requests: PostgresRequests, *arguments: Any) -> Turn:
    """A route that knows no request again."""
    turn = await _take(requests, *arguments)
    return turn if turn.answer is None else Turn()


async def _keep_nothing(requests: PostgresRequests, *arguments: Any, until: float) -> None:
    """Its answers, which it does not keep."""


def _take_twice(answering: Answering, heard: Heard) -> None:
    """An answerer that handles each request twice."""
    _hear(answering, heard)
    _hear(answering, heard)


async def _answer_first(answering: Answering, heard: Heard) -> None:
    """An answerer that answers before it handles."""
    number = json.loads(heard.message.data)["number"]
    await answering._send(heard, b"%d" % number, {})
    with suppress(Exception):
        await answering._handle(heard)


async def _tell_twice(exchange: CoreExchange, messages: Sequence[Message]) -> Mapping[int, Rejected]:
    """An exchange that tells everything twice."""
    await _tell(exchange, messages)
    return await _tell(exchange, messages)


def _put(owner: Any, name: str, function: Callable[..., Any]) -> Callable[[], None]:
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
    "no-memory": (
        _put(PostgresRequests, "take", _take_without_memory),
        _put(PostgresRequests, "keep", _keep_nothing),
    ),
    "commit-by-fetching": (_put(KafkaBroker, "consume", _consume_by_fetching),),
    "slow-keys": (_put(PostgresUnit, "admit", _admit_slowly),),  # no fault: what the next is compared with
    "leaping-watermark": (
        _put(PostgresUnit, "admit", _admit_slowly),
        _put(Partition, "finish", _finish_all_before),
    ),
    "no-confirmation": (_put(Connection, "producer", _produce_without_confirmation),),
    "any-partition": (_put(publisher, "_hash", _any_partition),),
    "no-timeouts": (_put(KafkaBroker, "__init__", _make_without_timeouts),),
    "two-answers": (_put(Answering, "take", _take_twice),),
    "early-answer": (_put(Answering, "_answer", _answer_first),),
    "two-tellings": (_put(CoreExchange, "tell", _tell_twice),),
    "no-fence": (_put(PostgresOutbox, "advance", _advance_plainly),),
}


def put_back(name: str) -> None:
    """Puts an old fault back into this process."""
    for change in FAULTS[name]:
        change()
