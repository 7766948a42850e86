"""Hosts: starting without a broker, readiness, and the drain."""

import asyncio

import pytest

from torpor import Depends, Event, Service, Transactions, Tx
from torpor.kernel.errors import NotRunning
from torpor.testing import TestShop


class Worked(Event, topic="worked", key="id"):
    id: int


class Gate:
    """Holds handlers until it opens."""

    def __init__(self) -> None:
        self.entered = 0
        self.open = asyncio.Event()


def worker(gate: Gate | None = None) -> Service:
    service = Service("worker")

    @service.on(Worked)
    async def work(event: Worked, tx: Tx) -> None:
        if gate is not None:
            gate.entered += 1
            await gate.open.wait()
        await tx.fetch("SELECT 1 AS one")

    @service.get("/answer")
    async def answer(tx: Tx) -> int:
        rows = await tx.fetch("SELECT 42 AS answer")
        return int(rows[0]["answer"])

    @service.post("/twice")
    async def twice(transactions: Transactions) -> None:
        async with transactions() as tx:
            tx.publish(Worked(id=1))
        async with transactions() as tx:
            tx.publish(Worked(id=2))
            raise LookupError("the second is taken back")

    return service


async def test_a_service_waits_for_its_broker() -> None:
    """Without a broker a service starts, says that it is not ready and why, and comes up when the broker does."""
    shop = TestShop(worker(), waits=False)
    shop.hub.is_down = True
    async with shop:
        await shop.until(lambda: shop.hosts[0].health.reasons.get("broker") is not None)
        assert (await shop.get("/-/ready")).status_code == 503
        assert "down" in (await shop.get("/-/ready")).text
        assert (await shop.get("/-/live")).status_code == 200
        shop.hub.is_down = False
        await shop.clock.advance(10)
        await shop.until(lambda: shop.hosts[0].is_ready)
        assert (await shop.get("/-/ready")).status_code == 200


async def test_a_broker_that_goes_away_is_waited_for() -> None:
    """A running service that loses its broker is not ready, answers requests, and recovers without a restart."""
    async with TestShop(worker()) as shop:
        shop.hub.is_down = True
        await shop.clock.advance(3)
        assert (await shop.get("/-/ready")).status_code == 503
        assert (await shop.get("/answer")).json() == 42
        shop.hub.is_down = False
        await shop.clock.advance(10)
        await shop.publish(Worked(id=1))
        await shop.settle()
        assert (await shop.get("/-/ready")).status_code == 200
        assert shop.hosts[0].metrics.of("worker.work").done == 1


async def test_a_quiet_topic_does_not_hide_that_the_broker_is_back() -> None:
    """A service that has nothing to do is ready again after an outage, without a message that would show it."""
    async with TestShop(worker()) as shop:
        shop.hub.is_down = True
        await shop.clock.advance(3)
        assert not shop.hosts[0].is_ready
        shop.hub.is_down = False
        await shop.clock.advance(10)
        assert shop.hosts[0].is_ready


async def test_stopping_finishes_what_is_under_way() -> None:
    """A stop takes nothing new, and waits for what a handler has in its hands: that is acknowledged, not lost."""
    gate = Gate()
    async with TestShop(worker(gate)) as shop:
        await shop.publish(Worked(id=1))
        await shop.until(lambda: gate.entered == 1)
        stopping = asyncio.ensure_future(shop.hosts[0].stop(10))
        await shop.until(lambda: not shop.hosts[0].is_ready)
        await shop.publish(Worked(id=2))
        assert not stopping.done()
        gate.open.set()
        await stopping
        assert gate.entered == 1
        assert not shop.hub.is_idle  # the second waits for the next start


async def test_a_transaction_of_a_routes_own_is_committed_or_taken_back() -> None:
    """Each transaction of a route ends by itself: the first is committed, the failing second is not."""
    async with TestShop(worker()) as shop:
        with pytest.raises(LookupError):
            await shop.post("/twice")
        await shop.settle()
        assert shop.published(Worked) == [Worked(id=1)]


async def test_a_stopped_harness_runs_nothing() -> None:
    """What needs the services says so when they are not running."""
    with pytest.raises(NotRunning):
        await TestShop(worker()).settle()


def test_depends_shows_its_function() -> None:
    """A dependency's repr names the function."""
    assert repr(Depends(worker)) == "Depends(worker)"
