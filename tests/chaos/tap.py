"""What was on the wire, seen by plain clients of NATS: each publish as it comes, and the streams once all is over."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import nats
from nats.js.errors import NotFoundError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

TOPICS = ("chaos.placed", "chaos.counted", "chaos.reminded")
_UNLIMITED = -1
_PATIENCE = 10.0


class Sighting(NamedTuple):
    """One message of a stream."""

    topic: str
    id: str
    key: str
    number: int
    at: float


class Tap:
    """Counts each publish by its id, those that JetStream drops as copies included, while it is connected."""

    def __init__(self, url: str) -> None:
        self.published: Counter[str] = Counter()
        self._url = url
        self._client: Client | None = None

    async def open(self) -> None:
        """Listens."""
        self._client = await _connected(self._url)
        for topic in TOPICS:
            await self._client.subscribe(
                topic, cb=self._saw, pending_msgs_limit=_UNLIMITED, pending_bytes_limit=_UNLIMITED
            )

    async def close(self) -> None:
        """Listens no more."""
        if self._client is not None:
            await self._client.close()

    async def _saw(self, message: Msg) -> None:
        self.published[(message.headers or {}).get("ce-id", "")] += 1


async def read_streams(url: str) -> list[Sighting]:
    """All that the streams hold, each in its order, by an ordered consumer of our own."""
    client = await _connected(url)
    try:
        seen: list[Sighting] = []
        for topic in TOPICS:
            seen += await _read(client, topic)
        return seen
    finally:
        await client.close()


async def unsettled(url: str) -> int:
    """How many deliveries the durable consumers have before them, or out and not acknowledged."""
    client = await _connected(url)
    try:
        stream = client.jetstream()
        total = 0
        for topic in TOPICS:
            for consumer in await stream.consumers_info(await stream.find_stream_name_by_subject(topic)):
                total += (consumer.num_ack_pending or 0) + (consumer.num_pending or 0)
        return total
    finally:
        await client.close()


async def _read(client: Client, topic: str) -> list[Sighting]:
    stream = client.jetstream()
    try:
        name = await stream.find_stream_name_by_subject(topic)
    except NotFoundError:
        return []
    left = (await stream.stream_info(name)).state.messages
    seen: list[Sighting] = []
    if left:
        subscription = await stream.subscribe(
            topic, ordered_consumer=True, pending_msgs_limit=_UNLIMITED, pending_bytes_limit=_UNLIMITED
        )
        while len(seen) < left:
            message = await subscription.next_msg(_PATIENCE)
            told = json.loads(message.data)
            at = message.metadata.timestamp.timestamp()
            seen.append(Sighting(topic, (message.headers or {})["ce-id"], told["key"], told["number"], at))
        await subscription.unsubscribe()
    return seen


async def _connected(url: str) -> Client:
    async def note(error: Exception) -> None:
        """A broker that goes away is part of the run."""

    return await asyncio.wait_for(
        nats.connect(url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, error_cb=note), _PATIENCE
    )
