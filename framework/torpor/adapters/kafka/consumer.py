"""Consuming: what aiokafka has fetched ahead becomes deliveries, and what is done is committed as a watermark.

When the group rebalances, what is in hand has a while to be finished, then the watermarks are committed, and each
partition goes on from there: with us, behind what we were handed already; with another consumer, from the watermark,
so that it may be given what we still work on. Its inbox knows what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from torpor.adapters.kafka.partition import Partition
from torpor.adapters.kafka.progress import Gauge
from torpor.adapters.kafka.raw import install
from torpor.adapters.kafka.records import read
from torpor.adapters.kafka.refusals import told
from torpor.adapters.kafka.topics import group_of
from torpor.kernel.errors import BrokerUnavailable, NotRunning
from torpor.kernel.message import Delivery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    from torpor.adapters.kafka.connection import Connection
    from torpor.kernel.progress import Progress
    from torpor.ports.consumer import Subscription

    _Records = Mapping[TopicPartition, Sequence[Any]]

_logger = logging.getLogger("torpor.kafka")
_POLL_SECONDS = 1.0
_END_SECONDS = 1.0
_IDLE_POLLS = 5  # without a record, after which we ask whether the broker lives
_FOR_EVER = 2**31 - 1  # milliseconds: what a slow handler costs is backpressure, and never the group


class KafkaConsumer:
    """A live subscription: a member of Kafka's group, and what it holds of each partition."""

    def __init__(self, subscription: Subscription, connection: Connection) -> None:
        self.subscription = subscription
        self._connection = connection
        self._group = group_of(subscription)
        self._gauge = Gauge(connection, subscription)
        self._client: AIOKafkaConsumer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._returned: deque[Delivery] = deque()
        self._is_steady = asyncio.Event()  # not while the group rebalances
        self._progress = asyncio.Event()  # something was settled since the last commit
        self._committing = asyncio.create_task(self._commit_for_ever(), name=f"torpor-kafka-commit of {self._group}")
        self._commit: asyncio.Task[bool] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._sticky: type[StickyPartitionAssignor] | None = None
        self._trouble: Exception | None = None
        self._is_stopped = False
        self._is_closing = False
        self._idle = 0

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while True:
            client = await self._member()
            await self._is_steady.wait()
            if self._returned:
                return [self._returned.popleft() for _ in range(min(limit, len(self._returned)))]
            records = await self._poll(client, limit)
            # Nothing is awaited from here on, so no delivery is lost to a cancellation.
            if records and (deliveries := self._read(records)):
                self._idle = 0
                return deliveries
            await self._look()

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            partition, offset = delivery.token
            partition.finish(offset)
        if deliveries:
            self._progress.set()

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        if self._is_stopped:
            for delivery in deliveries:  # in hand no more, and never to be committed
                delivery.token[0].abandon()
            self._progress.set()
            return
        for delivery in sorted(deliveries, key=lambda delivery: int(delivery.token[1])):
            self._returned.append(Delivery(delivery.message, delivery.token, fault=delivery.fault))

    async def progress(self) -> Progress:
        return await self._gauge.read(self._client if self._opening is None else None, self._partitions)

    async def stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        for delivery in self._returned:
            delivery.token[0].abandon()
        self._returned.clear()
        self._leaving = asyncio.create_task(self._leave_when_done(), name=f"torpor-kafka-leave {self._group}")
        if not self._held:
            await asyncio.shield(self._leaving)

    async def close(self) -> None:
        """Commits what is done and leaves the group: the broker stops."""
        self._is_closing = True
        self._progress.set()
        await self.stop()
        if self._leaving is not None:
            await self._leaving

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left."""
        return self._leaving is not None and self._leaving.done()

    # What aiokafka calls when the group rebalances. It waits for both, and heartbeats go on meanwhile.

    async def revoked(self, revoked: set[TopicPartition]) -> None:
        """Lets what is in hand be finished, and commits what is done."""
        self._is_steady.clear()
        if revoked:
            await self._handed_over()
            await self._commit_quietly()
        if self._sticky is not None and self._client is not None and self._client._coordinator.generation < 0:  # noqa: SLF001
            self._sticky.member_assignment = None  # the group has gone on without us: we have no claim to make
        if self._is_stopped:  # what is still in hand must not keep the partitions from those who can go on
            self._is_closing = True
            self._progress.set()

    async def assigned(self, assigned: set[TopicPartition]) -> None:
        """Goes on with what is ours, from where the group is or behind what we were handed already."""
        client = self._client
        if client is None:
            return
        places = {place: await self._place(client, place) for place in assigned}
        former = self._partitions
        self._partitions = {}
        for place, offset in places.items():
            partition = self._partitions[place] = former.get(place) or Partition(offset)
            partition.advance(offset)
            client.seek(place, partition.position)
        kept = set(map(id, self._partitions.values()))
        self._returned = deque(delivery for delivery in self._returned if id(delivery.token[0]) in kept)
        self._is_steady.set()

    def fail(self, error: Exception) -> None:
        """Has the next fetch tell an error, and begin anew."""
        self._trouble = error
        self._partitions = {}
        self._is_steady.set()

    async def _place(self, client: AIOKafkaConsumer, place: TopicPartition) -> int:
        """Where the group is in a partition; at its beginning, when it was added after the group had begun."""
        committed: int | None = await client.committed(place)
        if committed is None:
            committed = (await client.beginning_offsets([place]))[place]
        return committed

    @property
    def _held(self) -> int:
        return sum(partition.held for partition in self._partitions.values())

    async def _member(self) -> AIOKafkaConsumer:
        """The client, once it is a member of the group. Raises BrokerUnavailable, and may be called again then."""
        if self._is_stopped:
            raise NotRunning(f"The consumer of {self.subscription!r} has stopped.")
        if self._client is not None and self._opening is None:
            return self._client
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        await asyncio.wait({opening})  # a cancelled fetch must not break the joining off
        if not opening.cancelled():
            opening.result()
        return await self._member()

    def open(self) -> None:
        """Begins to join the group, so that the partitions are there when something is fetched."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_note)

    async def _open(self) -> None:
        options = self._connection.options
        try:
            client = self._connection.consumer(
                group_id=self._group,
                session_timeout_ms=int(options.session_timeout * 1000),
                heartbeat_interval_ms=int(options.session_timeout * 1000 / 5),
                max_poll_interval_ms=_FOR_EVER,
                max_partition_fetch_bytes=options.fetch_bytes,
                partition_assignment_strategy=(self._assignor(),),
            )
            client.subscribe([self.subscription.topic], listener=self._listener())
            self._client = client
            try:
                async with self._connection.mapped("takes no consumer", 4 * options.request_timeout):
                    await client.start()
                install(client)
            except BaseException:
                await self._drop(client)
                raise
        finally:
            self._opening = None

    def _assignor(self) -> type[StickyPartitionAssignor]:
        """Leaves partitions where they are when the group rebalances. Its state is the class's, so each consumer has
        a class of its own."""
        from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

        self._sticky = type("Sticky", (StickyPartitionAssignor,), {})
        return self._sticky

    def _listener(self) -> ConsumerRebalanceListener:
        """Us, as aiokafka's own kind of listener, which is not imported before it is needed."""
        from aiokafka import ConsumerRebalanceListener

        consumer = self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
            async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
                await consumer.revoked(revoked)

            async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
                try:
                    await consumer.assigned(assigned)
                except Exception as error:  # noqa: BLE001  # aiokafka would only log it; the next fetch tells it
                    consumer.fail(error)

        return Listener()

    async def _poll(self, client: AIOKafkaConsumer, limit: int) -> _Records:
        from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError

        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            refusal = await self._refused(client, trouble)
            raise (refusal if isinstance(trouble, KafkaError) else trouble) from trouble
        try:
            records: _Records = await client.getmany(timeout_ms=int(_POLL_SECONDS * 1000), max_records=limit)
        except (ConsumerStoppedError, IllegalStateError):
            return {}
        except KafkaError as error:
            raise await self._refused(client, error) from error
        return records

    async def _refused(self, client: AIOKafkaConsumer, error: Exception) -> BrokerUnavailable:
        """Gives the client up, so that the next fetch begins with a new one."""
        if client is self._client:
            await self._drop(client)
        reason = self._connection.explained(error)
        return BrokerUnavailable(f"Kafka at {self._connection.servers} refuses {self.subscription!r}: {reason}.")

    def _read(self, records: _Records) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for place, batch in records.items():
            partition = self._partitions.get(place)
            if partition is None or not self._is_steady.is_set():
                continue  # it is about to be assigned, and then fetched again from its place
            offsets = [record.offset for record in batch]
            if offsets[0] < partition.position:  # somebody has made the topic anew
                partition = self._partitions[place] = Partition(offsets[0])
            partition.take(offsets)
            deliveries += read(batch, place.topic, place.partition, holder=partition)
        return deliveries

    async def _look(self) -> None:
        """Asks after the broker when nothing has come for a while. Raises BrokerUnavailable."""
        self._idle += 1
        if self._idle >= _IDLE_POLLS and not self._is_stopped:
            self._idle = 0
            await self._connection.ping()

    async def _commit_for_ever(self) -> None:
        while True:
            await self._progress.wait()
            await asyncio.sleep(self._connection.options.commit_interval)
            self._progress.clear()
            if self._is_steady.is_set() and not await self._commit_quietly():
                self._progress.set()

    async def _commit_quietly(self) -> bool:
        """Commits the watermarks. What cannot be committed comes again, to us or to another."""
        seconds = self._connection.options.request_timeout
        while (former := self._commit) is not None:
            await asyncio.wait({former}, timeout=seconds)
            if not former.done():
                return False
        due = {
            place: partition.watermark
            for place, partition in self._partitions.items()
            if partition.watermark > partition.committed
        }
        if not due or self._client is None:
            return True
        # Never cancelled: aiokafka would leave a request behind whose error nobody takes.
        commit = self._commit = asyncio.create_task(self._try_to_commit(self._client, due))
        commit.add_done_callback(self._forget_commit)
        await asyncio.wait({commit}, timeout=seconds)
        return commit.done() and not commit.cancelled() and commit.result()

    def _forget_commit(self, commit: asyncio.Task[bool]) -> None:
        if self._commit is commit:
            self._commit = None

    async def _try_to_commit(self, client: AIOKafkaConsumer, due: Mapping[TopicPartition, int]) -> bool:
        from aiokafka.errors import KafkaError

        try:
            await client.commit(dict(due))
        except (KafkaError, OSError) as error:
            _logger.debug("Group %s has not committed: %s", self._group, told(error))
            return False
        for place, offset in due.items():
            if (partition := self._partitions.get(place)) is not None:
                partition.committed = max(partition.committed, offset)
        return True

    async def _handed_over(self) -> None:
        """Waits until what is in hand is done, for a while: nothing then comes again to whoever goes on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._connection.options.handover):
                while self._held and not self._is_closing:
                    self._progress.clear()
                    await self._progress.wait()

    async def _leave_when_done(self) -> None:
        await self._handed_over()
        await self._leave()

    async def _leave(self) -> None:
        self._committing.cancel()
        await asyncio.wait({self._committing})
        if (opening := self._opening) is not None:  # cancelled only when it must be: aiokafka would lose a socket
            await asyncio.wait({opening}, timeout=self._connection.options.request_timeout)
            opening.cancel()
            await asyncio.wait({opening})
        client = self._client
        if client is not None:
            await self._commit_quietly()
            await self._drop(client)
        self._partitions.clear()
        self._is_steady.set()  # whoever waits in a fetch learns that it is over

    async def _drop(self, client: AIOKafkaConsumer) -> None:
        """Leaves the group, as far as the broker can be told so."""
        self._client = None
        self._is_steady.clear()
        leaving = asyncio.create_task(_farewell(client), name=f"torpor-kafka-farewell of {self._group}")
        leaving.add_done_callback(_note)
        try:
            await asyncio.wait({leaving}, timeout=self._connection.options.request_timeout)
        finally:
            leaving.cancel()
        if (commit := self._commit) is not None:
            await asyncio.wait({commit}, timeout=_END_SECONDS)
            commit.cancel()

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else "steady" if self._is_steady.is_set() else "joining"
        return f"<KafkaConsumer {self._group} {state} partitions={len(self._partitions)} held={self._held}>"


async def _farewell(client: AIOKafkaConsumer) -> None:
    """Stops a client. It wants a task of its own: aiokafka's stop() ends with the cancellation of a fetch that waits to
    be tried again, before it has closed its sockets."""
    try:
        await client.stop()
    finally:
        await client._client.close()  # noqa: SLF001


def _note(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _logger.debug("%s", task.exception())
