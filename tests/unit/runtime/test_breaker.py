"""`Breaker`: a system that keeps failing is not called."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from torpor import Breaker, ConfigurationError, Event, Retry, Service, Timeout
from torpor.adapters.memory.clock import VirtualClock
from torpor.kernel.errors import CircuitOpen, TimedOut
from torpor.testing import TestShop

FAILED = "2 of its last 2 calls failed, the last with ConnectionError: second"


class Placed(Event, topic="placed", key="id"):
    id: str


class System:
    """Another system, whose calls last until the test ends them."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.calls: list[asyncio.Future[str]] = []
        self._arrivals = asyncio.Semaphore(0)

    async def call(self) -> str:
        async with self.breaker:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self.calls.append(future)
            self._arrivals.release()
            return await future

    async def begun(self, number: int = 1) -> list[asyncio.Task[str]]:
        """Calls that have arrived and are under way."""
        tasks = [asyncio.create_task(self.call()) for _ in range(number)]
        for _ in tasks:
            await self._arrivals.acquire()
        return tasks


async def fail(breaker: Breaker, error: BaseException) -> None:
    """A call that fails."""
    async with breaker:
        raise error


async def opened(**options: Any) -> tuple[Breaker, VirtualClock]:
    """A breaker that has just opened, after two failures, for ten seconds of a clock."""
    clock = VirtualClock()
    breaker = Breaker("api", failures=2, open_seconds=10, clock=clock, **options)
    for text in ("first", "second"):
        with pytest.raises(ConnectionError, match=text):
            await fail(breaker, ConnectionError(text))
    assert breaker.state == "open"
    return breaker, clock


async def test_an_open_breaker_does_not_call() -> None:
    """Open, it raises `CircuitOpen` before the call, with its reason and the seconds left; then it probes."""
    breaker, clock = await opened()
    await clock.advance(4)
    with pytest.raises(CircuitOpen) as caught:
        await fail(breaker, AssertionError("was called"))
    assert caught.value.retry_after == 6
    assert str(caught.value) == (
        f"'api' is not called: open, for 6 s more; {FAILED}. "
        "Expected it to work again first. Catch CircuitOpen to do without it, or let the message fail."
    )
    await clock.advance(6)
    async with breaker:
        pass
    assert breaker.state == "closed"


async def test_one_call_of_many_probes() -> None:
    """When the time has come one call of many goes through; it decides for all."""
    breaker, clock = await opened()
    system = System(breaker)
    await clock.advance(10)
    (probe,) = await system.begun()
    others = await asyncio.gather(*(system.call() for _ in range(20)), return_exceptions=True)
    assert {type(other) for other in others} == {CircuitOpen}
    assert breaker.state == "half-open"
    system.calls[0].set_result("works")
    assert await probe == "works"
    assert breaker.state == "closed"
    assert len(await system.begun(5)) == 5
    for call in system.calls[1:]:
        call.set_result("works")


async def test_calls_at_once_are_counted_each() -> None:
    """Calls that are under way together end in any order, and each counts once."""
    breaker = Breaker("api", failures=3)
    system = System(breaker)
    tasks = await system.begun(5)
    for call in reversed(system.calls[2:]):
        assert breaker.state == "closed"
        call.set_exception(ConnectionError("refused"))
        await asyncio.wait([tasks[system.calls.index(call)]])
    assert breaker.state == "open"
    system.calls[0].set_result("late")
    system.calls[1].set_exception(ConnectionError("late"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == "late"
    assert breaker.state == "open"


async def test_a_cancelled_call_is_no_failure() -> None:
    """Cancelled calls do not count, and a cancelled probe leaves its place to the next call."""
    clock = VirtualClock()
    breaker = Breaker("api", failures=1, open_seconds=10, clock=clock, timeout=Timeout(60))
    system = System(breaker)
    for _ in range(3):
        (task,) = await system.begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert breaker.state == "closed"
    with pytest.raises(ConnectionError):
        await fail(breaker, ConnectionError())
    await clock.advance(10)
    (probe,) = await system.begun()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert "the next call probes it" in repr(breaker)
    async with breaker:
        pass
    assert breaker.state == "closed"


async def test_only_chosen_exceptions_count() -> None:
    """An exception that `on` does not name is an answer of a system that works."""
    breaker = Breaker("api", failures=1, on=[ConnectionError])
    with pytest.raises(LookupError):
        await fail(breaker, LookupError("no such customer"))
    assert breaker.state == "closed"
    with pytest.raises(ConnectionResetError):
        await fail(breaker, ConnectionResetError())
    assert breaker.state == "open"


@pytest.mark.parametrize("is_clock_of_timeout", [False, True])
async def test_its_own_timeout_is_a_failure(is_clock_of_timeout: bool) -> None:  # noqa: FBT001  # a test's parameter
    """A call that its timeout ends has failed, whatever `on` names, by the clock of the timeout or the breaker's."""
    clock = VirtualClock()
    timeout = Timeout(2, clock=clock if is_clock_of_timeout else None)
    breaker = Breaker("api", failures=1, on=[ConnectionError], timeout=timeout, clock=clock)
    (task,) = await System(breaker).begun()
    await clock.advance(2)
    assert task.done()
    with pytest.raises(TimedOut, match=r"^A call to 'api' was not done after 2 s"):
        await task
    assert breaker.state == "open"


async def test_a_breaker_tells_its_changes(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one warning when it opens, and one line when the system works again."""
    caplog.set_level(logging.INFO, "torpor.breaker")
    breaker, clock = await opened()
    await clock.advance(10)
    async with breaker:
        pass
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"api is not called any more: open, for 10 s more; {FAILED}"),
        ("INFO", "api works again"),
    ]


async def test_a_breaker_shows_its_state() -> None:
    """Its repr tells what an operator asks: the state, the counts, the last error, the time left."""
    assert repr(Breaker("idle")) == "<Breaker 'idle' closed, 0 of its last 0 calls failed>"
    breaker, clock = await opened()
    assert repr(breaker) == f"<Breaker 'api' open, for 10 s more; {FAILED}>"
    await clock.advance(10)
    assert repr(breaker) == f"<Breaker 'api' open, the next call probes it; {FAILED}>"
    async with breaker:
        assert repr(breaker) == f"<Breaker 'api' half-open, one call probes it; {FAILED}>"
    breaker, _ = await opened()
    breaker.reset()
    assert repr(breaker) == "<Breaker 'api' closed, 0 of its last 0 calls failed>"


def test_mistakes_are_told_together() -> None:
    """Numbers that make no sense and values of the wrong kind are refused where they are written, all at once."""
    with pytest.raises(ConfigurationError) as caught:
        Breaker("api", failures=0, open_seconds=0, timeout=2.0, on=ValueError)  # type: ignore[arg-type]
    assert caught.value.problems == (
        "Breaker('api'): failures=0 never lets a call through. Give at least 1.",
        "Breaker('api'): open_seconds=0 never stops calling. Give a positive number of seconds.",
        "Breaker('api'): timeout=2.0 is no Timeout. Give Timeout(seconds).",
        f"Breaker('api'): on={ValueError!r} is no list of exception classes. Give on=[ConnectionError], for example.",
    )
    with pytest.raises(ConfigurationError, match="of=2 calls cannot fail 3 times"):
        Breaker("api", failures=3, of=2)
    with pytest.raises(ConfigurationError, match="never counts a failure"):
        Breaker("api", on=[])


async def test_a_handler_that_is_refused_fails_by_its_policy() -> None:
    """In an event handler `CircuitOpen` is a failure as any other: the message parks, and redriving handles it."""
    clock = VirtualClock()
    breaker, service, charged = Breaker("api", failures=1, open_seconds=10, clock=clock), Service("orders"), list[str]()
    is_down = True

    @service.on(Placed, retry=Retry(attempts=1))
    async def charge(event: Placed) -> None:
        async with breaker:
            if is_down:
                raise ConnectionError("refused")
            charged.append(event.id)

    async with TestShop(service) as shop:
        for id in ("1", "2"):
            await shop.publish(Placed(id=id))
            await shop.settle()
        reasons = {row.message.key: row.reason.partition(":")[0] for row in await shop.parked()}
        assert reasons == {"1": "ConnectionError", "2": "CircuitOpen"}
        is_down = False
        await clock.advance(10)
        await shop.redrive()
        assert sorted(charged) == ["1", "2"]
        assert await shop.parked() == []
