"""`Timeout`: what is not done in time is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from torpor import ConfigurationError, Timeout, TorporError
from torpor.adapters.memory.clock import VirtualClock
from torpor.kernel.errors import TimedOut


async def forever() -> None:
    """A call that never ends."""
    await asyncio.Event().wait()


async def test_what_is_done_in_time_is_left_alone() -> None:
    """A call within the limit gives its result, and its own exceptions come out as they are."""
    clock, tasks = VirtualClock(), asyncio.all_tasks()
    for timeout in (Timeout(60), Timeout(60, clock=clock)):
        async with timeout:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError, match="of its own") as caught:
            async with timeout:
                raise TimeoutError("of its own")
        assert not isinstance(caught.value, TorporError)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks  # no watch is left behind


async def test_what_takes_too_long_is_cancelled() -> None:
    """By the loop's time, too long is `TimedOut`, which is a `TimeoutError` and names the limit."""
    with pytest.raises(TimedOut, match=r"^A call was not done after 0\.001 s, the limit of its Timeout\.") as caught:
        async with Timeout(0.001):
            await forever()
    assert caught.value.seconds == 0.001
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_a_clock_can_be_given() -> None:
    """With a clock of a test the time is up when that clock says so, and not before."""
    clock = VirtualClock()

    async def call() -> None:
        async with Timeout(2, clock=clock):
            await forever()

    task = asyncio.create_task(call())
    await clock.advance(1.9)
    assert not task.done()
    await clock.advance(0.1)
    with pytest.raises(TimedOut, match="after 2 s"):
        await task


async def test_one_value_guards_many_calls_at_once() -> None:
    """Calls that overlap have the full time each, in one task and in many."""
    clock = VirtualClock()
    limit, ended = Timeout(10, clock=clock), list[tuple[str, float]]()

    async def call(name: str, delay: float, seconds: float) -> None:
        await clock.sleep(delay)
        try:
            async with limit:
                await clock.sleep(seconds)
        except TimedOut:
            name += " late"
        ended.append((name, clock.time()))

    start = clock.time()
    async with asyncio.TaskGroup() as group:
        group.create_task(call("a", 0, 100))
        group.create_task(call("b", 5, 100))
        group.create_task(call("c", 6, 7))
        await clock.advance(20)
    assert [(name, at - start) for name, at in ended] == [("a late", 10), ("c", 13), ("b late", 15)]


async def test_calls_of_one_value_nest() -> None:
    """A call inside another, guarded by the same value, has a time of its own; the outer one keeps its own too."""
    clock = VirtualClock()
    limit = Timeout(10, clock=clock)

    async def call() -> None:
        async with limit:
            await clock.sleep(5)
            async with limit:
                await clock.sleep(4)
            await forever()

    task = asyncio.create_task(call())
    await clock.advance(9.9)
    assert not task.done()
    await clock.advance(0.1)
    assert task.done()
    with pytest.raises(TimedOut):
        await task


@pytest.mark.parametrize("has_clock", [False, True])
async def test_a_cancelled_call_stays_cancelled(has_clock: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """Who cancels the call sees it cancelled, not timed out."""
    begun = asyncio.Event()

    async def call() -> None:
        async with Timeout(60, clock=VirtualClock() if has_clock else None):
            begun.set()
            await forever()

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_is_left_where_it_was_entered() -> None:
    """To leave it in another task is a mistake that is told."""
    limit = Timeout(60)
    async with limit:
        with pytest.raises(RuntimeError, match="left by another task"):
            await asyncio.create_task(limit.__aexit__(None, None, None))


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_a_positive_number(seconds: float) -> None:
    """A limit that nothing can keep, or that is none, is refused where it is written."""
    with pytest.raises(ConfigurationError, match="Give a positive number of seconds"):
        Timeout(seconds)


def test_it_shows_its_limit() -> None:
    """Its repr is how it is written."""
    assert repr(Timeout(2.0)) == "Timeout(2)"
