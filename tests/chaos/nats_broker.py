"""NATS on the stage, seen by plain clients: each publish as it comes, and the streams once all is over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import nats
from nats.js.errors import NotFoundError

from tests.chaos.broker import TOPICS, Door, sighting
from torpor.adapters.nats.embedded import EmbeddedNats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from tests.chaos.broker import Sighting

_UNLIMITED = -1
_PATIENCE = 10.0


class NatsBrokerServer:
    """A NATS server with JetStream."""

    has_exchange = True

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedNats(folder)
        self._heard: Counter[str] = Counter()  # what JetStream drops as copies included, while we are connected
        self._client: Client | None = None

    @property
    def url(self) -> str:
        return self._server.url

    def url_at(self, port: int) -> str:
        return f"nats://127.0.0.1:{port}"

    def door(self, number: int) -> Door:  # all come to one
        return Door(0, self._server.port or 0)

    async def start(self) -> None:
        self._server.start()  # here, since Linux ends it with the thread that has started it

    async def restart(self, *, is_killed: bool) -> None:
        """A kill of the process leaves what it has written with the kernel, so JetStream needs no sync for it."""
        if is_killed and self._server.pid is not None:
            os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()
        self._server.start()

    async def stop(self) -> None:
        self._server.stop()

    async def listen(self) -> None:
        self._client = await _connected(self.url)
        for topic in TOPICS:
            await self._client.subscribe(
                topic, cb=self._hear, pending_msgs_limit=_UNLIMITED, pending_bytes_limit=_UNLIMITED
            )

    async def hush(self) -> None:
        if self._client is not None:
            await self._client.close()

    def published(self, sightings: Sequence[Sighting]) -> Counter[str]:  # they are fewer
        return self._heard

    async def sightings(self) -> list[Sighting]:
        """By an ordered consumer of our own."""
        client = await _connected(self.url)
        try:
            return [sighting for topic in TOPICS for sighting in await _read(client, topic)]
        finally:
            await client.close()

    async def unsettled(self) -> int:
        client = await _connected(self.url)
        try:
            stream = client.jetstream()
            total = 0
            for topic in TOPICS:
                for consumer in await stream.consumers_info(await stream.find_stream_name_by_subject(topic)):
                    total += (consumer.num_ack_pending or 0) + (consumer.num_pending or 0)
            return total
        finally:
            await client.close()

    async def _hear(self, message: Msg) -> None:
        self._heard[(message.headers or {}).get("ce-id", "")] += 1


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
            at = message.metadata.timestamp.timestamp()
            seen.append(sighting(topic, message.headers or {}, json.loads(message.data), at))
        await subscription.unsubscribe()
    return seen


async def _connected(url: str) -> Client:
    async def note(error: Exception) -> None:
        """A broker that goes away is part of the run."""

    return await asyncio.wait_for(
        nats.connect(url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, error_cb=note), _PATIENCE
    )
