"""One other system, called over HTTP: a deadline, retries within a budget, a circuit breaker and a limit on how many
calls are under way, as one value."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from torpor.kernel.budget import RetryBudget
from torpor.kernel.errors import CallFailed, ConfigurationError, TimedOut
from torpor.runtime.breaker import Breaker
from torpor.runtime.settings import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import httpx

    from torpor.kernel.message import Message

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # to be done twice
_TRANSIENT = frozenset({429, 502, 503, 504})
_PASSED_ON = ("traceparent", "tracestate")
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0


class _Failing(Exception):  # an internal signal to the breaker, not an error that is told
    """The system has answered that it does not work."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"HTTP {answer.status_code}")
        self.answer = answer


class Http:
    """Calls one other system over HTTP.

    ```python
    from collections.abc import AsyncIterator
    from typing import Annotated


    @orders.lifespan
    async def bank() -> AsyncIterator[Http]:
        async with Http("https://bank.internal", timeout=3.0) as http:
            yield http


    @orders.on(OrderPlaced)
    async def charge(event: OrderPlaced, tx: Tx, bank: Annotated[Http, Depends(bank)]) -> OrderPaid:
        answer = await bank.post("/charges", json={"cents": 5}, key=tx.step_key("charge"), cause=tx.message)
        answer.raise_for_status()
        return OrderPaid(order_id=event.order_id)
    ```

    `timeout` is how long a call may take with all its attempts. A call that was not answered, or was answered with 429,
    502, 503 or 504, is repeated up to `attempts` times if that does no harm: it was never sent, its method may be done
    twice, or it has a `key`, which goes along as `Idempotency-Key`. Repetitions are at most the share `budget` of all
    calls, and wait as the answer's `Retry-After` says, or a random while. At most `most` calls are under way at once,
    others wait for their turn. The circuit opens when most of the last calls failed; `breaker` is one of your own.
    `cause` is the message in hand, whose trace the call carries on. Any answer is returned, with whatever status.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 5.0,
        attempts: int = 3,
        budget: float = 0.2,
        most: int = 100,
        breaker: Breaker | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        parts, problems = urlsplit(base_url), []
        self._name = without_secrets(base_url) or ""
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            problems.append(f"Http({self._name!r}): expected a URL such as 'https://bank.internal'.")
        if not (math.isfinite(timeout) and timeout > 0):
            problems.append(f"Http(timeout={timeout}) lets no call end. Give a positive number of seconds.")
        if attempts < 1 or most < 1 or not 0 <= budget <= 1:
            problems.append(
                f"Http(attempts={attempts}, most={most}, budget={budget}): expected at least 1, at least 1, and a "
                "share from 0 to 1."
            )
        if problems:
            raise ConfigurationError(problems)
        self._base_url = base_url
        self._timeout = timeout
        self._attempts = attempts
        self._budget = RetryBudget(budget)
        self._most = most
        self._turn = asyncio.Semaphore(most)
        self._breaker = breaker or Breaker(self._name, failures=10, of=20, open_seconds=5.0)
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        try:
            import httpx
        except ImportError as error:
            raise ConfigurationError(["Http needs httpx. Install torpor[client]."]) from error
        limits = httpx.Limits(max_connections=self._most, max_keepalive_connections=self._most)
        self._client = httpx.AsyncClient(
            base_url=self._base_url,
            timeout=None,  # noqa: S113  # the deadline is ours
            limits=limits,
            transport=self._transport,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """`GET path`, with httpx's own options and those of `request`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        """`POST path`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> httpx.Response:
        """`PUT path`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> httpx.Response:
        """`PATCH path`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        """`DELETE path`."""
        return await self.request("DELETE", path, **options)

    async def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        cause: Message | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """The answer to a call. Raises CallFailed, TimedOut, or CircuitOpen when the system is not called."""
        if self._client is None:
            raise ConfigurationError([f"{self!r} is not open. Use it as `async with Http(...) as http:`."])
        sent = {name: cause.attributes[name] for name in _PASSED_ON if cause is not None and name in cause.attributes}
        if key is not None:
            sent["idempotency-key"] = key
        built = self._client.build_request(method, path, headers={**sent, **(headers or {})}, **options)
        self._budget.called(time.monotonic())
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                return await self._call(self._client, built, is_repeatable=key is not None or method.upper() in _SAFE)
        except TimeoutError as error:
            raise TimedOut(
                f"{method} {path} of {self._name} was not answered within {self._timeout:g} s. It may have been done.",
                seconds=self._timeout,
            ) from error

    async def _call(self, client: httpx.AsyncClient, request: httpx.Request, *, is_repeatable: bool) -> httpx.Response:
        import httpx

        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._try(client, request)
            except httpx.TransportError as error:
                was_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if not self._is_worth_it(attempt, is_harmless=is_repeatable or not was_sent):
                    raise self._failure(request, error, attempt, was_sent=was_sent) from error
                wait = None
            else:
                is_harmless = is_repeatable and answer.status_code in _TRANSIENT
                if answer.status_code < 400 or not self._is_worth_it(attempt, is_harmless=is_harmless):
                    return answer
                wait = _asked_wait(answer)
            await asyncio.sleep(_wait_before(attempt) if wait is None else wait)

    async def _try(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        """One attempt, of which the breaker knows."""
        try:
            async with self._breaker:
                answer = await client.send(request)
                if answer.status_code >= 500 or answer.status_code == 429:
                    raise _Failing(answer)
        except _Failing as failing:
            return failing.answer
        return answer

    def _is_worth_it(self, attempt: int, *, is_harmless: bool) -> bool:
        """Whether to call again."""
        return is_harmless and attempt < self._attempts and self._budget.may_retry()

    def _failure(self, request: httpx.Request, error: Exception, attempts: int, *, was_sent: bool) -> CallFailed:
        what = f"{request.method} {request.url.path} of {self._name}"
        known = "It may have been done." if was_sent else "It was not sent."
        return CallFailed(f"{what} failed, attempts: {attempts}. {str(error) or type(error).__name__}. {known}")

    def __repr__(self) -> str:
        return f"<Http {self._name} {self._breaker.state}>"


def _wait_before(attempt: int) -> float:
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**attempt)
    return random.random() * longest  # noqa: S311  # jitter


def _asked_wait(answer: httpx.Response) -> float | None:
    """The seconds that an answer asks to wait for."""
    text = answer.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    with suppress(TypeError, ValueError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None
