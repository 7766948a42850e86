"""A stop that comes while a service starts, or while its database is away, ends it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from torpor import Event, Service, Tx
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.adapters.memory.store import MemoryStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import BrokerUnavailable, StoreUnavailable
from torpor.runtime.binding import bind
from torpor.runtime.ending import ended, within
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery
    from torpor.ports.consumer import Consumer, Subscription

DEADLINE = 20


class Noted(Event, topic="ending.noted"):
    text: str


service = Service("ending")


@service.on(Noted)
async def note(event: Noted, tx: Tx) -> None: ...


class ClumsyStore(MemoryStore):
    """A store whose driver, when it is cancelled, stumbles in its cleanup over a connection that is lost."""

    waits = 2

    async def start(self) -> None:
        if self.waits:
            self.waits -= 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                raise StoreUnavailable("The connection is closed.") from error
        await super().start()


class ClumsyConsumer:
    """The same, of a broker's driver."""

    def __init__(self, inner: Consumer) -> None:
        self.acknowledge = inner.acknowledge
        self.release = inner.release
        self.stop = inner.stop
        self.progress = inner.progress
        self.is_asked = asyncio.Event()
        self._waits = 2

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self._waits -= 1
            if self._waits >= 0:
                raise BrokerUnavailable("The connection is closed.") from error
            raise
        return []


class ClumsyBroker(MemoryBroker):
    """A broker with such a consumer."""

    consumer: ClumsyConsumer | None = None

    async def consume(self, subscription: Subscription) -> Consumer:  # type: ignore[override]  # stands in for it
        self.consumer = ClumsyConsumer(await super().consume(subscription))
        return self.consumer


async def test_a_start_that_is_stopped_ends_though_its_database_is_lost() -> None:
    """What a driver raises in the place of its cancelling is not taken for an outage after which to go on."""
    host = Host(bind(service), broker=MemoryBroker(MemoryHub()), store=ClumsyStore(SystemClock()), clock=SystemClock())
    await host.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE):
        await host.stop(1)
    assert not host.is_ready


async def test_a_consumer_that_is_stopped_ends_though_its_broker_is_lost() -> None:
    """The same, of the task that fetches."""
    broker = ClumsyBroker(MemoryHub())
    host = Host(bind(service), broker=broker, store=MemoryStore(SystemClock()), clock=SystemClock())
    await host.start()
    async with asyncio.timeout(DEADLINE):
        while broker.consumer is None:  # noqa: ASYNC110  # a fact of any kind has no event
            await asyncio.sleep(0.01)
        await broker.consumer.is_asked.wait()
        await host.stop(1)


async def test_tasks_that_are_over_and_none_at_all_need_no_ending() -> None:
    """Nothing is waited for."""

    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    await ended([task])
    await ended([])


async def test_a_task_that_goes_on_is_told_again() -> None:
    """Who takes the cancelling for something else, as a duty over its own cleanup may, is cancelled until it ends."""
    told: list[str] = []

    async def stubborn() -> None:
        while len(told) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("cancelled")

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE):
        await ended([task])
    assert told == ["cancelled", "cancelled"]


async def test_work_that_cleans_up_for_long_is_ended_too() -> None:
    """A drain has its time and little more, though what it waits for waits again when it is cancelled."""

    async def clean_up() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def fail() -> None:
        raise ValueError

    async with asyncio.timeout(DEADLINE):
        assert not await within(0.01, clean_up())
        assert await within(1, asyncio.sleep(0))
        with pytest.raises(ValueError):  # noqa: PT011  # any will do
            await within(1, fail())
