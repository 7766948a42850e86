"""The watcher: lag as metrics, and a consumer that stands still as a reason not to be ready."""

from __future__ import annotations

import asyncio
import re

import pytest

from torpor import Event, Order, Pause, Retry, Service
from torpor.assembly import duties_of, plans_of
from torpor.features.watcher import Watcher
from torpor.runtime.settings import Settings
from torpor.testing import TestShop


class Ordered(Event, topic="ordered", key="key"):
    key: str


class Kit:
    """A service whose handler waits until it may go on, and fails while `is_broken`."""

    def __init__(self, *, order: Order = Order.KEY, pause: Pause | None = None) -> None:
        self.may_go_on = asyncio.Event()
        self.is_broken = False
        self.service = Service("kit")

        @self.service.on(Ordered, order=order, pause=pause, retry=Retry(attempts=1), group="readers")
        async def handle(event: Ordered) -> None:
            if event.key != "quick":
                await self.may_go_on.wait()
            if self.is_broken:
                raise RuntimeError("down")


async def metric(shop: TestShop, name: str) -> float | None:
    """The value of a metric of the handler."""
    labels = 'group="readers",handler="kit.handle",service="kit",topic="ordered"'
    found = re.search(rf"^{name}{{{labels}}} (.*)$", (await shop.get("/-/metrics")).text, re.MULTILINE)
    return None if found is None else float(found[1])


async def readiness(shop: TestShop) -> tuple[int, str]:
    """The answer of /-/ready, and what it says of the watcher."""
    answer = await shop.get("/-/ready")
    told: str = answer.json()["services"]["kit"]["parts"].get("watcher", {}).get("detail", "")
    return answer.status_code, told


async def test_lag_and_age_are_metrics() -> None:
    """They rise while messages wait, and fall to nothing once all are settled."""
    kit = Kit()
    async with TestShop(kit.service) as shop:
        await shop.clock.advance(2)
        assert (await metric(shop, "torpor_lag"), await metric(shop, "torpor_lag_seconds")) == (0, 0)
        for key in "abc":
            await shop.publish(Ordered(key=key))
        await shop.clock.advance(30)
        assert await metric(shop, "torpor_lag") == 3
        age = await metric(shop, "torpor_lag_seconds")
        assert age is not None
        assert 15 <= age <= 30
        kit.may_go_on.set()
        await shop.settle()
        await shop.clock.advance(10)
        assert (await metric(shop, "torpor_lag"), await metric(shop, "torpor_lag_seconds")) == (0, 0)


async def test_a_consumer_that_stands_still_is_not_ready_until_it_moves() -> None:
    """Readiness says no once nothing was settled for so long, with the binding's name, and yes again by itself; that
    others of its messages are settled does not hide the first."""
    kit = Kit()
    async with TestShop(kit.service) as shop:
        await shop.publish(Ordered(key="slow"))
        await shop.clock.advance(290)
        await shop.publish(Ordered(key="quick"))
        assert (await readiness(shop))[0] == 200
        await shop.clock.advance(30)
        status, told = await readiness(shop)
        assert status == 503
        assert told == "kit.handle has settled nothing for more than 300 s, and messages of 'ordered' wait"
        kit.may_go_on.set()
        await shop.settle()
        await shop.clock.advance(10)
        assert await readiness(shop) == (200, "ok")


async def test_an_idle_consumer_does_not_stand_still() -> None:
    """Nothing to do is no standstill, however long."""
    kit = Kit()
    async with TestShop(kit.service) as shop:
        await shop.clock.advance(2000)
        assert (await readiness(shop))[0] == 200


async def test_a_handler_that_pauses_does_not_stand_still() -> None:
    """The kill switch is a decision: it is told by its own metric, and its time does not count."""
    kit = Kit(pause=Pause(failures=1, of=1, seconds=2000))
    kit.is_broken = True
    kit.may_go_on.set()
    async with TestShop(kit.service) as shop:
        for key in "ab":
            await shop.publish(Ordered(key=key))
        await shop.until(lambda: shop.hosts[0].lingers > 0)
        await shop.clock.advance(1000)
        assert (await metric(shop, "torpor_lag"), (await readiness(shop))[0]) == (1, 200)


async def test_an_outage_does_not_count() -> None:
    """While the broker is away there is no number, and afterwards the consumer has its whole time again."""
    kit = Kit()
    async with TestShop(kit.service) as shop:
        await shop.publish(Ordered(key="slow"))
        await shop.clock.advance(200)
        shop.hub.is_down = True
        await shop.clock.advance(20)
        assert await metric(shop, "torpor_lag") is None
        assert (await readiness(shop))[0] == 503
        shop.hub.is_down = False
        await shop.clock.advance(200)
        assert ((await readiness(shop))[0], await metric(shop, "torpor_lag")) == (200, 1)
        kit.may_go_on.set()
        await shop.settle()


@pytest.mark.parametrize("seconds", [0.0, 300.0])
def test_every_service_that_listens_has_a_watcher(seconds: float) -> None:
    """It is one of its duties, with the time of the settings; a service without a topic has none."""
    settings = Settings.read({"TORPOR_STUCK_SECONDS": f"{seconds:g}"})
    (listening,), (silent,) = plans_of([Kit().service]), plans_of([Service("silent")])
    assert [type(duty) for duty in duties_of(listening, settings)].count(Watcher) == 1
    assert Watcher not in [type(duty) for duty in duties_of(silent, settings)]


async def test_nothing_stands_still_when_the_setting_is_0() -> None:
    """TORPOR_STUCK_SECONDS=0 turns it off, and leaves the metrics."""
    kit = Kit()
    async with TestShop(kit.service) as shop:
        (watcher,) = [duty for duty in shop.hosts[0].duties if isinstance(duty, Watcher)]
        watcher._stuck_seconds = 0
        await shop.publish(Ordered(key="slow"))
        await shop.clock.advance(5000)
        assert ((await readiness(shop))[0], await metric(shop, "torpor_lag")) == (200, 1)
        kit.may_go_on.set()
        await shop.settle()
