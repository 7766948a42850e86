"""What a message waits for: its key, nothing, or all before it; and how many units run side by side."""

import asyncio
from typing import Any

import pytest

from torpor import Batch, ConfigurationError, Event, Order, Retry, Service, Tx
from torpor.runtime.binding import bind
from torpor.testing import TestShop


class Moved(Event, topic="moved", key="key"):
    key: str
    number: int


class Kit:
    """A service whose handler waits, fails on command, and tells what it did."""

    def __init__(self, **options: Any) -> None:
        self.done: list[int] = []
        self.calls: list[int] = []
        self.broken: set[int] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0
        self.service = Service("kit")

        @self.service.on(Moved, **options)
        async def handle(event: Moved, tx: Tx) -> None:
            self.calls.append(event.number)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.gate.wait()
                if event.number in self.broken:
                    raise ValueError(event.number)
            finally:
                self.running -= 1
            self.done.append(event.number)


async def publish(shop: TestShop, *numbers: int, keys: int = 100) -> None:
    for number in numbers:
        await shop.publish(Moved(key=str(number % keys), number=number))


async def test_strict_order_is_that_of_the_topic() -> None:
    """All messages are handled one after the other, whatever their keys are."""
    kit = Kit(order=Order.STRICT)
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(120))
        await shop.settle()
        assert (kit.done, kit.most) == (list(range(120)), 1)


async def test_in_strict_order_all_wait_behind_a_parked_message() -> None:
    """A message that is parked holds up every later one, of any key, and redriving it lets them go on in order."""
    kit = Kit(order=Order.STRICT, retry=Retry(attempts=1, isolated=True))
    kit.broken = {3}
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(10))
        await shop.settle()
        await publish(shop, 10, 11)
        await shop.settle()
        assert kit.done == [0, 1, 2]
        assert [row.state for row in await shop.parked()] == ["parked", *["waiting"] * 8]
        kit.broken = set()
        await shop.redrive()
        assert kit.done == list(range(12))
        assert await shop.parked() == []


async def test_without_order_nothing_waits_behind_a_parked_message() -> None:
    """Later messages of a parked message's key are handled all the same."""
    kit = Kit(order=Order.NONE, retry=Retry(attempts=1))
    kit.broken = {0}
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(20), keys=1)
        await shop.settle()
        assert sorted(kit.done) == list(range(1, 20))
        assert len(await shop.parked()) == 1


async def test_without_order_messages_of_one_key_are_handled_side_by_side() -> None:
    """A key's messages are spread over the lanes."""
    kit = Kit(order=Order.NONE)
    kit.gate.clear()
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(40), keys=1)
        await shop.until(lambda: bool(kit.calls))
        kit.gate.set()
        await shop.settle()
        assert sorted(kit.done) == list(range(40))
        assert kit.done != sorted(kit.done)


async def test_concurrency_bounds_the_units_side_by_side() -> None:
    """With one lane, messages of all keys follow each other."""
    kit = Kit(concurrency=1)
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(50))
        await shop.settle()
        assert kit.done == list(range(50))


async def test_an_isolated_handler_is_not_called_again_for_its_neighbour() -> None:
    """With savepoints from the first, a failure does not run the handlers of its batch anew."""
    kit = Kit(concurrency=1, retry=Retry(attempts=2, isolated=True))
    kit.broken = {5}
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(10))
        await shop.settle()
        assert kit.calls == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]


async def test_a_handler_that_is_not_isolated_may_be_called_again() -> None:
    """By default the whole batch is replayed, with savepoints."""
    kit = Kit(concurrency=1, retry=Retry(attempts=2))
    kit.broken = {5}
    async with TestShop(kit.service) as shop:
        await publish(shop, *range(10))
        await shop.settle()
        assert kit.calls.count(0) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"order": "strict"}, "order='strict'. Give a value: order=Order.NONE."),
        ({"concurrency": 0}, "concurrency=0. Give a number from 1 to 256."),
        ({"concurrency": "many"}, "concurrency='many'"),
        ({"concurrency": 4, "order": Order.STRICT}, "concurrency=4 and order=Order.STRICT"),
        ({"retry": 3}, "retry=3. Give a value: retry=Retry(attempts=5)."),
        ({"pause": 3}, "pause=3. Give a value: pause=Pause(seconds=30)."),
        ({"ordr": Order.NONE}, "unknown option 'ordr'. Did you mean 'order'?"),
    ],
)
def test_a_wrong_policy_is_told_at_bind(options: dict[str, Any], told: str) -> None:
    """Each mistake names the option, its value and what was expected."""
    with pytest.raises(ConfigurationError) as caught:
        bind(Kit(**options).service)
    assert told in str(caught.value)


def test_policies_have_the_defaults_of_their_order() -> None:
    """A strict handler and a batch handler have one lane unless they say more."""
    policies = [
        bind(service).subscribers[0].policies
        for service in (Kit().service, Kit(order=Order.STRICT).service, Kit(concurrency=3).service, batching())
    ]
    assert [one.lanes for one in policies] == [16, 1, 3, 1]


def batching() -> Service:
    service = Service("batching")

    @service.on(Moved, batch=Batch(10))
    async def handle(events: list[Moved], tx: Tx) -> None: ...

    return service
