"""The shelf on NATS, a key-value bucket, keeps the port's contract on a real server."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.nats.shelf import bucket_of
from torpor.kernel.errors import ConfigurationError
from torpor.testing.conformance.shelf import SharingConformance, ShelfConformance, passed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.adapters.nats.shelf import JetStreamShelf

_services = count(1)


class NatsShelves:
    def __init__(self, url: str) -> None:
        self.service = f"conformance {next(_services)}"
        self._url = url
        self._brokers: list[JetStreamBroker] = []

    def broker(self, url: str | None = None) -> JetStreamBroker:
        self._brokers.append(JetStreamBroker(JetStreamOptions(servers=url or self._url, name=self.service)))
        return self._brokers[-1]

    async def shelf(self) -> JetStreamShelf:
        return self.broker().shelf

    async def restart(self) -> None:
        for broker in self._brokers:
            await broker.stop()

    async def absent(self) -> JetStreamShelf:
        return self.broker("nats://127.0.0.1:1").shelf

    async def pass_time(self, seconds: float) -> None:
        await passed(seconds)


@pytest.fixture
async def shelves(nats_server: EmbeddedNats) -> AsyncIterator[NatsShelves]:
    """Shelves of one service on one server."""
    shelves = NatsShelves(nats_server.url)
    yield shelves
    await shelves.restart()


class TestShelf(ShelfConformance): ...


class TestSharing(SharingConformance): ...


async def test_a_bucket_that_somebody_removed_is_made_again(shelves: NatsShelves) -> None:
    """What lay there is gone, and the shelf goes on."""
    broker = shelves.broker()
    await broker.shelf.put("a", b"1", seconds=60)
    stream = f"KV_{bucket_of(shelves.service)}"
    answer = await broker.client.request(f"$JS.API.STREAM.DELETE.{stream}", b"")
    assert json.loads(answer.data)["success"]
    assert await broker.shelf.find(["a"]) == {}
    assert await broker.shelf.put("a", b"2", seconds=60)
    assert (await broker.shelf.find(["a"]))["a"].value == b"2"


async def test_a_bucket_of_somebody_else_is_refused(shelves: NatsShelves) -> None:
    """A stream of its name that is not ours is left as it is, and what differs is told."""
    broker = shelves.broker()
    await broker.start()
    name = f"KV_{bucket_of(shelves.service)}"
    body = json.dumps({"name": name, "subjects": ["other.>"]}).encode()
    await broker.client.request(f"$JS.API.STREAM.CREATE.{name}", body)
    with pytest.raises(ConfigurationError, match="none that Torpor made: its subjects"):
        await broker.shelf.find(["a"])


async def test_no_mark_of_a_removal_stays(shelves: NatsShelves) -> None:
    """What was removed leaves nothing in the bucket after a moment."""
    broker = shelves.broker()
    await broker.shelf.put("a", b"1", seconds=60)
    await broker.shelf.remove(["a", "never"])
    async with asyncio.timeout(15):
        while True:
            if not await messages_of(broker, shelves.service):
                return
            await asyncio.sleep(0.1)


async def messages_of(broker: JetStreamBroker, service: str) -> int:
    """How many messages a bucket has."""
    answer = await broker.client.request(f"$JS.API.STREAM.INFO.KV_{bucket_of(service)}", b"")
    return int(json.loads(answer.data)["state"]["messages"])
