"""The kill switch: a handler most of whose messages fail stops for a while, and then tries one."""

import asyncio

import pytest

from torpor import ConfigurationError, Event, Pause, Retry, Service
from torpor.testing import TestShop


class Ordered(Event, topic="ordered", key="key"):
    key: str
    number: int


class Kit:
    """A service whose handler fails while `is_broken`."""

    def __init__(self, pause: Pause | None) -> None:
        self.is_broken = True
        self.calls: list[int] = []
        self.service = Service("kit")

        @self.service.on(Ordered, pause=pause, retry=Retry(attempts=1), concurrency=1)
        async def handle(event: Ordered) -> None:
            self.calls.append(event.number)
            if self.is_broken:
                raise RuntimeError("down")


async def publish(shop: TestShop, count: int) -> None:
    for number in range(count):
        await shop.publish(Ordered(key=str(number), number=number))


async def test_a_failing_handler_pauses_and_then_tries_one() -> None:
    """Once so many have failed the rest waits; a probe that fails begins the pause anew, one that works ends it."""
    kit = Kit(Pause(failures=5, of=10, seconds=30))
    async with TestShop(kit.service) as shop:
        await publish(shop, 100)
        await shop.until(lambda: shop.hosts[0].lingers > 0)
        failed = len(await shop.parked())
        assert 5 <= failed < 100
        status = shop.hosts[0].status()
        assert status["ready"]
        assert status["parts"]["kit.handle"]["detail"].startswith("paused: ")
        await shop.clock.advance(30)
        await shop.until(lambda: shop.hosts[0].lingers > 0)
        assert len(await shop.parked()) == failed + 1
        kit.is_broken = False
        await shop.settle()
        assert len(await shop.parked()) == failed + 1
        assert len(set(kit.calls)) == 100
        assert shop.hosts[0].status()["parts"]["kit.handle"]["detail"] == "ok"


async def test_a_pause_is_counted() -> None:
    """The metric tells which handler pauses."""
    kit = Kit(Pause(failures=2, of=2))
    async with TestShop(kit.service) as shop:
        await publish(shop, 100)
        await shop.until(lambda: shop.hosts[0].lingers > 0)
        families = {family.name: family for family in shop.hosts[0].metrics.families()}
        labels = {"service": "kit", "handler": "kit.handle"}
        assert families["torpor_paused"].samples == [(labels, 1.0)]
        kit.is_broken = False
        await shop.settle()
        families = {family.name: family for family in shop.hosts[0].metrics.families()}
        assert families["torpor_paused"].samples == [(labels, 0.0)]


async def test_what_a_pause_holds_up_comes_again_after_a_stop() -> None:
    """A clean stop does not wait for the pause to end, and loses nothing."""
    kit = Kit(Pause(failures=2, of=2, seconds=3600))
    async with TestShop(kit.service) as shop:
        await publish(shop, 100)
        await shop.until(lambda: shop.hosts[0].lingers > 0)
        failed = len(await shop.parked())
        kit.is_broken = False
        await shop.hosts[0].stop()
        handled = set(kit.calls)
        assert len(handled) == failed


async def test_a_stop_finishes_what_was_fetched() -> None:
    """Without a pause a clean stop handles all that waits in the lanes: none of it has to come again."""
    handled: list[int] = []
    go = asyncio.Event()
    service = Service("kit")

    @service.on(Ordered, concurrency=1)
    async def handle(event: Ordered) -> None:
        await go.wait()
        handled.append(event.number)

    async with TestShop(service) as shop:
        await publish(shop, 150)
        (intake,) = shop.hosts[0]._intakes
        await shop.until(lambda: intake.under_way == 150)
        stopping = asyncio.create_task(shop.hosts[0].stop())
        await shop.until(lambda: not shop.hosts[0].is_ready)
        go.set()
        await stopping
        assert handled == list(range(150))


async def test_without_a_pause_all_are_tried() -> None:
    """`pause=None` parks whatever fails."""
    kit = Kit(None)
    async with TestShop(kit.service) as shop:
        await publish(shop, 200)
        await shop.settle()
        assert len(set(kit.calls)) == 200


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"failures": 5, "of": 4}, {"seconds": 0.0}, {"seconds": float("nan")}]
)
def test_a_pause_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """More failures than messages, or no seconds, make no pause."""
    with pytest.raises(ConfigurationError, match="Pause"):
        Pause(**wrong)  # type: ignore[arg-type]
