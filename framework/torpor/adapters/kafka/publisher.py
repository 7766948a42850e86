"""Publishing: a call's messages as one batch for each partition, confirmed as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from torpor.adapters.kafka.records import encode
from torpor.adapters.kafka.refusals import told
from torpor.adapters.kafka.topics import check_topic
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

    from torpor.adapters.kafka.connection import Connection
    from torpor.adapters.kafka.records import Record
    from torpor.adapters.kafka.topics import Topics
    from torpor.kernel.message import Message


_FORSAKE_SECONDS = 1.0
_PORTION = 4  # a part so large of what was too much at once is tried next


class Publisher:
    """Publishes batches with one idempotent producer, which is given up with all it holds when it is unknown what
    arrived: what it would send later would overtake the repetition."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        self._connection = connection
        self._topics = topics
        self._producer: AIOKafkaProducer | None = None
        self._portions: dict[str, int] = {}  # of topics that take less than they say, or do not let us ask
        self._turn = asyncio.Lock()

    async def publish(self, messages: Sequence[Message]) -> dict[int, Rejected]:
        """Publishes in order, and returns the refusals by index once all others are confirmed."""
        if not messages:
            return {}
        _ = self._connection.admin  # raises when it is not running
        async with self._turn:
            producer = self._producer or await self._open()
            work = _Work(messages)
            try:
                await self._prepare(work, producer)
                await self._send(work, producer)
                while work.has_gap:
                    work.has_gap = False
                    self._give_up()  # it has counted what was refused, and Kafka has not: it would take no more of it
                    if work.queues():
                        await self._send(work, await self._open())
            except BaseException:
                self._give_up()
                raise
        return work.refusals

    async def stop(self) -> None:
        """Closes the producer; what was published is confirmed already."""
        self._give_up()

    async def _open(self) -> AIOKafkaProducer:
        producer = self._connection.producer()
        try:
            async with self._connection.mapped("takes no producer", self._connection.options.connect_timeout):
                await producer.start()
        except BaseException:
            self._connection.leave(_forsake(producer))
            raise
        self._producer = producer
        return producer

    def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._connection.leave(_forsake(producer))

    async def _prepare(self, work: _Work, producer: AIOKafkaProducer) -> None:
        """Puts each message into its partition's batches, unless it is refused."""
        partitions: dict[str, list[int]] = {}
        spare: dict[str, int] = {}
        limits: dict[str, int] = {}
        most = self._connection.options.batch_bytes
        for index, message in enumerate(work.messages):
            topic = message.topic
            try:
                if work.follows_refused(index):
                    raise Rejected(f"{message!r} follows a refused message of its key.")
                if topic not in limits:
                    with self._permitted(message):
                        limits[topic] = await self._limit(message)
                        async with self._connection.mapped(f"does not tell of topic {topic!r}"):
                            partitions[topic] = sorted(await producer.partitions_for(topic))
                    spare[topic] = random.choice(partitions[topic])  # noqa: S311  # spreads load
                record = encode(message)
                size = _size(record)
                if size > limits[topic]:
                    raise Rejected(
                        f"{message!r} is {size} bytes with its headers, and topic {topic!r} takes at most "
                        f"{limits[topic]}. Send a reference instead, or raise its max.message.bytes."
                    )
            except Rejected as refusal:
                work.refuse(index, refusal)
                continue
            known = partitions[topic]
            partition = spare[topic] if record[0] is None else known[_hash(record[0]) % len(known)]
            portion = min(limits[topic], most, self._portions.get(topic, most))
            work.add(index, record, place=(topic, partition), size=size, limit=portion)

    @contextlib.contextmanager
    def _permitted(self, message: Message) -> Iterator[None]:
        """Makes a refusal of it that a topic is closed to us."""
        from aiokafka.errors import TopicAuthorizationFailedError

        try:
            yield
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, TopicAuthorizationFailedError):
                raise
            self._topics.doubt()
            reason = self._connection.explained(error.__cause__)
            raise Rejected(f"Kafka refuses {message!r}: {reason}.") from error

    async def _limit(self, message: Message) -> int:
        try:
            check_topic(message.topic)
        except ConfigurationError as error:
            raise Rejected(f"{message!r} is refused: {error.problems[0]}") from error
        limit = await self._topics.limit(message.topic)
        if limit is None:
            raise Rejected(f"Kafka has no topic for {message!r}. Declare it first.")
        return limit

    async def _send(self, work: _Work, producer: AIOKafkaProducer) -> None:
        """Sends the batches, those of a partition one after the other, and waits for the confirmations."""
        timeout = self._connection.options.publish_timeout
        sending = [asyncio.ensure_future(self._send_in_turn(work, batches, producer)) for batches in work.queues()]
        try:
            while sending:
                done, pending = await asyncio.wait(sending, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                sending = list(pending)
                if sending and not work.has_progress():
                    raise self._doubt(work, f"no confirmation for {timeout:g} s")
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _send_in_turn(self, work: _Work, batches: deque[_Batch], producer: AIOKafkaProducer) -> None:
        """Sends a partition's batches until they are through, or one is refused."""
        from aiokafka.errors import (
            KafkaError,
            MessageSizeTooLargeError,
            RecordListTooLargeError,
            TopicAuthorizationFailedError,
        )

        while batches:
            batch = batches.popleft()
            topic, partition = batch.place
            work.drop_refused(batch)
            if not batch.indexes:
                continue
            if (portion := self._portions.get(topic)) is not None and batch.size > portion and len(batch.indexes) > 1:
                batches.extendleft(reversed(batch.split(portion)))
                continue
            try:
                confirmation = await producer.send_batch(_built(batch, producer), topic, partition=partition)
                # Never cancelled, and its error always taken: aiokafka may fail it when we are gone.
                confirmation.add_done_callback(_take)
                await asyncio.wait({confirmation})
                confirmation.result()
            except (MessageSizeTooLargeError, RecordListTooLargeError, TopicAuthorizationFailedError) as error:
                self._topics.doubt()
                if len(batch.indexes) > 1 and not isinstance(error, TopicAuthorizationFailedError):
                    self._portions[topic] = batch.size // _PORTION
                    batches.appendleft(batch)
                else:
                    reason = self._connection.explained(error)
                    for index in batch.indexes:
                        work.refuse(index, Rejected(f"Kafka refuses {work.messages[index]!r}: {reason}."))
                    work.outstanding -= len(batch.indexes)
                work.has_gap = True
                return
            except KafkaError as error:
                raise self._doubt(work, told(error)) from error
            else:
                work.confirm(len(batch.indexes))

    def _doubt(self, work: _Work, reason: str) -> BrokerUnavailable:
        self._topics.doubt()
        return BrokerUnavailable(
            f"Kafka at {self._connection.servers} has not confirmed {work.outstanding} of {len(work.messages)} "
            f"messages: {reason}."
        )


def _built(batch: _Batch, producer: AIOKafkaProducer) -> BatchBuilder:
    """The bytes of a batch."""
    builder = producer.create_batch()
    for key, value, headers in batch.records:
        if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            raise ValueError(f"A batch for {batch.place} is fuller than the {batch.size} bytes that were counted.")
    builder.close()
    return builder


def _take(confirmation: asyncio.Future[Any]) -> None:
    if not confirmation.cancelled():
        confirmation.exception()


class _Batch:
    """Messages for one partition that are sent together."""

    __slots__ = ("indexes", "place", "records", "size")

    def __init__(self, place: tuple[str, int]) -> None:
        self.place = place
        self.indexes: list[int] = []
        self.records: list[Record] = []
        self.size = 0

    def split(self, limit: int) -> Sequence[_Batch]:
        """Smaller batches of the same messages, of one at least."""
        pieces = deque[_Batch]()
        for index, record in zip(self.indexes, self.records, strict=True):
            _put(pieces, index, record, place=self.place, size=_size(record), limit=limit)
        return pieces


def _put(batches: deque[_Batch], index: int, record: Record, *, place: tuple[str, int], size: int, limit: int) -> None:
    """Puts a message into the last batch, or into a new one when that is full."""
    if not batches or batches[-1].size + size > limit:
        batches.append(_Batch(place))
    batch = batches[-1]
    batch.indexes.append(index)
    batch.records.append(record)
    batch.size += size


class _Work:
    """A call's messages, in batches, and what became of them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.refusals: dict[int, Rejected] = {}
        self._refused: dict[str, int] = {}  # the first refused index of each key
        self.outstanding = 0
        self.has_gap = False  # the producer has counted what Kafka has refused
        self._batches: dict[tuple[str, int], deque[_Batch]] = {}
        self._confirmed = 0
        self._seen = 0

    def add(self, index: int, record: Record, *, place: tuple[str, int], size: int, limit: int) -> None:
        """Puts a message behind those of its partition."""
        _put(self._batches.setdefault(place, deque()), index, record, place=place, size=size, limit=limit)
        self.outstanding += 1

    def refuse(self, index: int, refusal: Rejected) -> None:
        """Notes that a message is refused, and its key with it."""
        self.refusals[index] = refusal
        key = self.messages[index].key
        if key is not None:
            self._refused[key] = min(index, self._refused.get(key, index))

    def follows_refused(self, index: int) -> bool:
        """Whether an earlier message of its key is refused."""
        key = self.messages[index].key
        return key is not None and self._refused.get(key, index) < index

    def drop_refused(self, batch: _Batch) -> None:
        """Refuses what follows, in a batch, on a key that was refused after it was sent."""
        for at in reversed(range(len(batch.indexes))):
            index = batch.indexes[at]
            if self.follows_refused(index):
                self.refuse(index, Rejected(f"{self.messages[index]!r} follows a refused message of its key."))
                del batch.indexes[at], batch.records[at]
                self.outstanding -= 1

    def confirm(self, count: int) -> None:
        """Notes that a batch is stored."""
        self._confirmed += count
        self.outstanding -= count

    def has_progress(self) -> bool:
        """Whether something was confirmed since it was asked the last time."""
        seen, self._seen = self._seen, self._confirmed
        return self._confirmed > seen

    def queues(self) -> list[deque[_Batch]]:
        """The batches of each partition that are not sent yet, in order."""
        return [batches for batches in self._batches.values() if batches]


class _Forgiving(set[Any]):
    """A set that lets be removed what is not there."""

    remove = set.discard


async def _forsake(producer: AIOKafkaProducer) -> None:
    """Closes a producer without sending what it holds. aiokafka has no way for that: its stop() sends all first, and
    waits for ever. So its batches fail, its connections close, and its sender is cancelled, which then stumbles over
    what has failed already."""
    from aiokafka.errors import KafkaConnectionError

    accumulator, sender = producer._message_accumulator, producer._sender  # noqa: SLF001
    batches = [*accumulator._pending_batches, *itertools.chain(*accumulator._batches.values())]  # noqa: SLF001
    accumulator._pending_batches = _Forgiving(accumulator._pending_batches)  # noqa: SLF001
    accumulator.fail_all(KafkaConnectionError("the producer was given up"))
    for batch in batches:
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001
            if future.done() and not future.cancelled():
                future.exception()  # taken here, as nobody waits for it any more
    await producer.client.close()
    task = sender.sender_task
    if task is not None:
        task.remove_done_callback(sender._fail_all)  # noqa: SLF001
        task.cancel()
        await asyncio.wait({task}, timeout=_FORSAKE_SECONDS)
        task.cancel()
    await producer.stop()


def _size(record: Record) -> int:
    """The bytes of a record in a batch, at the most."""
    from aiokafka.record.default_records import DefaultRecordBatchBuilder

    key, value, headers = record
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers))


@functools.lru_cache(maxsize=20_000)
def _hash(key: bytes) -> int:
    """Where Kafka's clients put a key, so that a topic's other producers agree."""
    from aiokafka.partitioner import murmur2

    return int(murmur2(key)) & 0x7FFFFFFF
