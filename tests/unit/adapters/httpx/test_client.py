"""Calls to another system: deadlines, retries within a budget, the breaker, the limit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from torpor import Breaker, ConfigurationError, Http, Message
from torpor.kernel.budget import RetryBudget
from torpor.kernel.errors import CallFailed, CircuitOpen, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable


class System:
    """Another system, which answers in turn with what it is given: a status, an error, or a request's own answer."""

    def __init__(self, *answers: int | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(request)
        return httpx.Response(answer, headers={"retry-after": "0"})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_does_no_harm_is_repeated(status: int) -> None:
    """A GET that is answered with a passing failure is sent again, and its later answer returned."""
    system = System(status, status, 200)
    async with Http("http://bank.test", transport=system.transport) as http:
        assert (await http.get("/balance")).status_code == 200
    assert len(system.requests) == 3


async def test_a_post_is_repeated_only_with_a_key() -> None:
    """Without a key the failure is the answer; with one the same key goes along each time."""
    system = System(503)
    async with Http("http://bank.test", transport=system.transport) as http:
        assert (await http.post("/charges", json={})).status_code == 503
        assert len(system.requests) == 1
        assert (await http.post("/charges", json={}, key="k1")).status_code == 503
    assert [request.headers.get("idempotency-key") for request in system.requests] == [None, "k1", "k1", "k1"]


async def test_what_was_never_sent_is_repeated() -> None:
    """A refused connection harms nobody; a connection that breaks after a POST was sent may have done it."""
    system = System(httpx.ConnectError("refused"), 201)
    async with Http("http://bank.test", transport=system.transport) as http:
        assert (await http.post("/charges")).status_code == 201
    broken = System(httpx.ReadError("reset"))
    async with Http("http://bank.test", transport=broken.transport) as http:
        with pytest.raises(CallFailed, match="may have been done"):
            await http.post("/charges")
    assert len(broken.requests) == 1


async def test_other_answers_are_returned() -> None:
    """A client's error and a server's own are the caller's to judge."""
    for status in (200, 404, 409, 500):
        system = System(status)
        async with Http("http://bank.test", transport=system.transport) as http:
            assert (await http.get("/")).status_code == status
        assert len(system.requests) == 1


async def test_a_call_has_a_deadline_with_all_its_attempts() -> None:
    """What is not answered in time raises, and says that it may have been done."""
    never = asyncio.Event()

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await never.wait()
            raise httpx.ReadError("never", request=request)

    async with Http("http://bank.test", timeout=0.01, transport=Silent()) as http:
        with pytest.raises(TimedOut, match="may have been done"):
            await http.get("/")


async def test_a_system_that_keeps_failing_is_not_called() -> None:
    """The circuit opens, and calls fail at once."""
    system = System(500)
    breaker = Breaker("bank", failures=3, open_seconds=60)
    async with Http("http://bank.test", breaker=breaker, transport=system.transport) as http:
        for _ in range(3):
            await http.get("/")
        with pytest.raises(CircuitOpen):
            await http.get("/")
    assert len(system.requests) == 3


async def test_so_many_calls_are_under_way_at_once() -> None:
    """More wait for their turn."""
    under_way, most, go = 0, 0, asyncio.Event()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await go.wait()
            under_way -= 1
            return httpx.Response(200)

    async with Http("http://bank.test", most=2, transport=Slow()) as http:
        calls = [asyncio.create_task(http.get("/")) for _ in range(6)]
        while under_way < 2:  # noqa: ASYNC110  # a count tells no event
            await asyncio.sleep(0)
        go.set()
        assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200] * 6
    assert most == 2


async def test_a_call_carries_the_trace_of_its_cause() -> None:
    """The message in hand hands its trace on, and nothing else."""
    system = System(200)
    cause = Message("t", b"", id="1", type="t", attributes={"traceparent": "00-1-2-01", "authid": "ada"})
    async with Http("http://bank.test", transport=system.transport) as http:
        await http.get("/", cause=cause, headers={"x-other": "1"})
    headers = system.requests[0].headers
    assert (headers["traceparent"], headers["x-other"]) == ("00-1-2-01", "1")
    assert "authid" not in headers


def test_repetitions_are_a_share_of_all_calls() -> None:
    """The reserve is used up, and then one call in five may be repeated."""
    budget = RetryBudget(0.2)
    assert sum(budget.may_retry() for _ in range(50)) == 10
    repeated = 0
    for _ in range(100):
        budget.called(0.0)
        repeated += budget.may_retry()
    assert 18 <= repeated <= 21


async def test_mistakes_are_told_without_secrets() -> None:
    """What is no URL, and numbers that make no sense; the password of a URL is in no text."""
    with pytest.raises(ConfigurationError) as raised:
        Http("ftp://ada:secret@bank.test", timeout=0, attempts=0)
    assert len(raised.value.problems) == 3
    assert "secret" not in str(raised.value)
    http = Http("https://ada:secret@bank.test")
    assert "secret" not in repr(http)
    with pytest.raises(ConfigurationError, match="not open"):
        await http.get("/")
