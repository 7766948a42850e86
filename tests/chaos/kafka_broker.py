"""Apache Kafka on the stage: one node, with a listener for each replica, which tells it to come by its own gate."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.broker import TOPICS, Door, sighting
from tests.integration.kafka_server import KafkaServer
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.chaos.broker import Sighting

PARTITIONS = 4
SESSION = 3  # seconds of silence after which the group goes on without a dead consumer
GROUPS = {
    "sink:chaos.placed": "chaos.placed",
    "tail:chaos.counted": "chaos.counted",
    "tail:chaos.reminded": "chaos.reminded",
}
_PATIENCE = 30.0
_POLL = 0.05
_MORE = """
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=CLIENT://127.0.0.1:{port}{advertised}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
"""


class KafkaBrokerServer:
    """One node of Kafka. What it has written stays with the kernel when it is killed."""

    has_exchange = False

    def __init__(self, folder: Path, *, doors: int) -> None:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that goes away is part of the run
        self._server = KafkaServer(folder)
        self._doors = [Door(free_port(), free_port()) for _ in range(doors)]
        self._server.more = _MORE.format(
            port=self._server.port,
            controller=free_port(),
            listeners="".join(f",DOOR{n}://127.0.0.1:{door.target}" for n, door in enumerate(self._doors)),
            advertised="".join(f",DOOR{n}://127.0.0.1:{door.front}" for n, door in enumerate(self._doors)),
            protocols="".join(f",DOOR{n}:PLAINTEXT" for n in range(doors)),
        )
        self._working: asyncio.Future[None] | None = None

    @property
    def url(self) -> str:
        return self.url_at(self._server.port)

    def url_at(self, port: int) -> str:
        return f"kafka://127.0.0.1:{port}?partitions={PARTITIONS}&session={SESSION}"

    def door(self, number: int) -> Door:
        return self._doors[number]

    async def start(self) -> None:
        await self._work(self._server.start)
        async with asyncio.timeout(_PATIENCE):
            while not await self._answers():  # noqa: ASYNC110  # Kafka tells no event
                await asyncio.sleep(_POLL)

    async def restart(self, *, is_killed: bool) -> None:
        await self._work(self._server.kill if is_killed else self._server.stop)
        await self.start()

    async def stop(self) -> None:
        if self._working is not None:
            await asyncio.wait([self._working])
        self._server.kill()

    async def listen(self) -> None:
        """What is published is stored."""

    async def hush(self) -> None:
        """There is nothing to end."""

    def published(self, sightings: Sequence[Sighting]) -> Counter[str]:
        return Counter(one.id for one in sightings)

    async def sightings(self) -> list[Sighting]:
        """By a consumer without a group, one partition after the other."""
        seen: list[Sighting] = []
        async with self._reader() as reader:
            for place, end in (await reader.end_offsets(_places())).items():
                reader.assign([place])
                await reader.seek_to_beginning(place)
                while await reader.position(place) < end:
                    for record in (await reader.getmany(place, timeout_ms=1000)).get(place, ()):
                        headers = {name: value.decode() for name, value in record.headers}
                        told = json.loads(record.value)
                        seen.append(sighting(record.topic, headers, told, record.timestamp / 1000))
        return seen

    async def unsettled(self) -> int:
        async with self._reader() as reader, self._admin() as admin:
            ends = await reader.end_offsets(_places())
            total = 0
            for group, topic in GROUPS.items():
                committed = await admin.list_consumer_group_offsets(group)
                for place in (place for place in ends if place.topic == topic):
                    offset = committed[place].offset if place in committed else 0
                    total += ends[place] - max(0, offset)
            return total

    async def _answers(self) -> bool:
        try:
            async with self._admin() as admin:
                await admin.list_topics()
        except (KafkaError, OSError):
            return False
        return True

    async def _work(self, what: Callable[[], None]) -> None:
        """Runs what blocks in a thread, to its end."""
        self._working = asyncio.ensure_future(asyncio.to_thread(what))
        await asyncio.shield(self._working)

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._server.address)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        reader = AIOKafkaConsumer(bootstrap_servers=self._server.address, enable_auto_commit=False)
        try:
            await reader.start()
            yield reader
        finally:
            await reader.stop()


def _places() -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in TOPICS for number in range(PARTITIONS)]
