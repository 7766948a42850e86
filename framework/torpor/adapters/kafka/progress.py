"""How far a group is, as Kafka tells it: what its partitions hold behind what is committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from torpor.adapters.kafka.topics import Topics, group_of
from torpor.kernel.errors import BrokerUnavailable
from torpor.kernel.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from torpor.adapters.kafka.connection import Connection
    from torpor.adapters.kafka.partition import Partition
    from torpor.ports.consumer import Subscription

    _Places = dict[TopicPartition, int]
    _Partitions = Mapping[Any, Partition]  # aiokafka has no types

_PEEK_BYTES = 4_096
_PEEK_SECONDS = 1.0
_TURN = 100  # milliseconds


class Gauge:
    """Asks after one group."""

    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        self._connection = connection
        self._topic = subscription.topic
        self._group = group_of(subscription)
        self._topics = Topics(connection)
        self._times: dict[tuple[TopicPartition, int], float] = {}  # when the first that waits at a place came

    async def read(self, client: AIOKafkaConsumer | None, own: _Partitions) -> Progress:
        """How far the group is, for a member of it and the partitions that it has."""
        if client is None:
            raise BrokerUnavailable(f"A consumer of {self._group!r} is about to join it.")
        async with self._connection.mapped(f"does not tell how far {self._group!r} is"):
            partitions = await self._topics.known(self._topic)
            committed = await self._topics.committed(self._group, partitions)
            ends: _Places = await client.end_offsets(partitions)  # read last, so that it is not before the others
            places = {place: at for place in partitions if (at := committed.get(place, 0)) < ends[place]}
            begins: _Places = await client.beginning_offsets(list(places)) if places else {}
            places = {place: max(at, begins[place]) for place, at in places.items()}
            unknown = {place: at for place, at in places.items() if (place, at) not in self._times}
            empty = await self._peek(unknown, ends) if unknown else set()
            places = {place: at for place, at in places.items() if place not in empty}
            self._times = {spot: at for spot, at in self._times.items() if places.get(spot[0]) == spot[1]}
            shares = {
                str(place.partition): places[place]
                for place, partition in own.items()
                if place in places and await _waits(client, place, partition, end=ends[place])
            }
        lag = sum(ends[place] - at for place, at in places.items())
        return Progress(lag, oldest_at=min(self._times.values(), default=None), shares=shares)

    async def _peek(self, places: _Places, ends: _Places) -> set[TopicPartition]:
        """Reads when the first message at each place came, with a client that belongs to no group. Returns the
        partitions in which nothing is left that could be handled, but the marks of transactions."""
        reader = self._connection.consumer(max_partition_fetch_bytes=_PEEK_BYTES)
        reader.assign(list(places))
        left = set(places)
        try:
            await reader.start()
            for place, offset in places.items():
                reader.seek(place, offset)
            until = asyncio.get_running_loop().time() + _PEEK_SECONDS
            while left and asyncio.get_running_loop().time() < until:
                for place, records in (await reader.getmany(timeout_ms=_TURN)).items():
                    left.discard(place)
                    self._times.setdefault((place, places[place]), records[0].timestamp / 1000)
            return {place for place in left if await reader.position(place) >= ends[place]}
        finally:
            await reader.stop()


async def _waits(client: AIOKafkaConsumer, place: TopicPartition, partition: Partition, *, end: int) -> bool:
    """Whether a member has something of a partition in hand or before it, or is about to commit it."""
    if partition.held or partition.watermark > partition.committed:
        return True
    return bool(await client.position(place) < end)
