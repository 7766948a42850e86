"""The clocks: time that a test moves, and the system's."""

from __future__ import annotations

import asyncio
import time

import pytest

from torpor.adapters.memory.clock import EPOCH, VirtualClock
from torpor.adapters.system.clock import SystemClock


async def test_time_stands_still_until_it_is_moved() -> None:
    """A virtual clock starts at a fixed moment and moves only by `advance`."""
    clock = VirtualClock()
    assert clock.time() == EPOCH

    await clock.advance(1.5)
    await clock.advance(0)

    assert clock.time() == EPOCH + 1.5
    assert VirtualClock(start=7).time() == 7


async def test_waiters_wake_in_order_each_at_its_own_time() -> None:
    """Sleepers wake in the order of their due times, ties in the order of asking, and see their due time."""
    clock, seen = VirtualClock(start=0), list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((name, clock.time()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("b2", 2), ("late", 11)):
            group.create_task(sleeper(name, seconds))
        await clock.advance(10)
        assert seen == [("a", 1.0), ("b", 2.0), ("b2", 2.0), ("c", 3.0)]
        assert clock.time() == 10
        assert clock.next_due() == 11
        await clock.advance(1)

    assert seen[-1] == ("late", 11.0)
    assert clock.next_due() is None


async def test_sleeps_that_follow_one_another_fit_into_one_advance() -> None:
    """What a woken waiter sleeps next falls due within the same advance, at the right times."""
    clock, ticks = VirtualClock(start=0), list[float]()

    async def ticker() -> None:
        while True:
            await clock.sleep(10)
            ticks.append(clock.time())

    task = asyncio.create_task(ticker())
    await clock.advance(35)
    task.cancel()

    assert ticks == [10, 20, 30]


async def test_a_sleep_of_nothing_returns_at_once() -> None:
    """Zero and negative sleeps only give way to others."""
    clock = VirtualClock()

    await clock.sleep(0)
    await clock.sleep(-1)

    assert clock.next_due() is None


@pytest.mark.parametrize("make", [VirtualClock, SystemClock])
async def test_wait_returns_true_once_the_event_is_set(make: type[VirtualClock | SystemClock]) -> None:
    """An event that is set before or while waiting ends the wait without the time passing."""
    clock, event = make(), asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)

    assert await clock.wait(event, 1000)
    assert await clock.wait(event, 1000)
    assert await clock.wait(event, 0)


@pytest.mark.parametrize("make", [VirtualClock, SystemClock])
@pytest.mark.parametrize("seconds", [0, -1])
async def test_wait_for_no_time_returns_false(make: type[VirtualClock | SystemClock], seconds: float) -> None:
    """A wait of no time at all tells that the event is not set."""
    assert not await make().wait(asyncio.Event(), seconds)


async def test_wait_returns_false_when_its_time_is_over() -> None:
    """A waiter whose event never comes is told so at its due time, not before."""
    clock = VirtualClock()
    task = asyncio.create_task(clock.wait(asyncio.Event(), 5))

    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.1)

    assert task.done()
    assert not task.result()


async def test_a_wait_that_ended_leaves_no_effect_behind() -> None:
    """Neither an event that came first nor a cancelled wait is disturbed when the old due time passes."""
    clock, event = VirtualClock(), asyncio.Event()

    async def twice() -> list[bool]:
        return [await clock.wait(event, 5), await clock.wait(asyncio.Event(), 20)]

    task = asyncio.create_task(twice())
    cancelled = asyncio.create_task(clock.wait(asyncio.Event(), 5))
    sleeping = asyncio.create_task(clock.sleep(5))
    await clock.advance(1)
    event.set()
    cancelled.cancel()
    sleeping.cancel()
    await clock.advance(10)
    assert not task.done()
    await clock.advance(10)

    assert task.result() == [True, False]
    assert cancelled.cancelled()
    assert sleeping.cancelled()


async def test_the_system_clock_tells_the_time_and_waits() -> None:
    """The real clock agrees with the system, and its waits end."""
    clock = SystemClock()

    assert abs(clock.time() - time.time()) < 60
    await clock.sleep(0)
    assert not await clock.wait(asyncio.Event(), 0.001)
