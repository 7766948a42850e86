"""Server-sent events: an answer that goes on."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header
from starlette.responses import StreamingResponse

from torpor.contract.answer import told_as
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.context import STOPPING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from torpor.runtime.plan import RouteBinding

HOSTS = "torpor_hosts"  # in the application's state
LastEventId = Annotated[str | None, Header(alias="last-event-id")]

_LINES = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\r\n\0]")
_LOOK_EVERY = 1.0  # seconds between looks at whether the service stops
_BEAT = b":\n\n"
_log = logging.getLogger("torpor.http")


class Sent:
    """One event of a stream, with what a plain value cannot say: its id, which a client that comes back tells as
    `Last-Event-ID`, and its name.

    ```python
    from collections.abc import AsyncIterator


    async def changes() -> AsyncIterator[Sent]:
        yield Sent({"state": "paid"}, id="7", event="change")
    ```
    """

    __slots__ = ("data", "event", "id")

    def __init__(self, data: Any, *, id: str | None = None, event: str | None = None) -> None:
        for name, text in (("id", id), ("event", event)):
            if text is not None and _FORBIDDEN.search(text):
                raise ConfigurationError([f"Sent({name}={text!r}): expected one line."])
        self.data = data
        self.id = id
        self.event = event


class Events(StreamingResponse):
    """Answers a route with server-sent events, one for each value of an async iterator.

    ```python
    from collections.abc import AsyncIterator


    @orders.get("/orders/{order_id}/events")
    async def follow(order_id: str, last: LastEventId = None) -> Events:
        async def changes() -> AsyncIterator[str]:
            yield f"{order_id} after {last}"

        return Events(changes(), retry=2.0)
    ```

    A text is sent as it is, any other value as JSON, and `Sent` says more of one. The iterator is asked for the next
    value once the client has taken the last; one that takes none for `patience` seconds is let go. A comment is sent
    after `heartbeat` seconds without a value. When the client goes, or the service stops, the iterator is closed: the
    client comes back by itself, after `retry` seconds, to a replica that is there.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Any],
        *,
        retry: float | None = None,
        heartbeat: float = 15.0,
        patience: float = 30.0,
    ) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, headers=headers)
        self._events = events
        self._retry = retry
        self._heartbeat = heartbeat
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until there is no more, or nobody who listens."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        leaving = asyncio.create_task(_left(receive))
        try:
            if self._retry is not None:
                await self._send(send, b"retry: %d\n\n" % (self._retry * 1000))
            if await self._sent_all(scope, send, leaving):
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            _log.info("a client of %s takes nothing, and is let go", scope["path"])
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()

    async def _sent_all(self, scope: Scope, send: Send, leaving: asyncio.Task[None]) -> bool:
        """Sends what comes; whether the client is still there at the end."""
        time = asyncio.get_running_loop().time
        beat_at = time() + self._heartbeat
        pulling = _pulled(self._events)
        try:
            while not _is_stopping(scope):
                waits = max(0.0, min(_LOOK_EVERY, beat_at - time()))
                await asyncio.wait({pulling, leaving}, timeout=waits, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    return False
                if pulling.done():
                    if pulling.result() is _END:
                        return True
                    await self._send(send, _framed(pulling.result()))
                    pulling = _pulled(self._events)
                elif time() < beat_at:
                    continue
                else:
                    await self._send(send, _BEAT)
                beat_at = time() + self._heartbeat
        finally:
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)
        return True

    async def _send(self, send: Send, body: bytes) -> None:
        async with asyncio.timeout(self._patience):
            await send({"type": "http.response.body", "body": body, "more_body": True})


def streaming(binding: RouteBinding) -> dict[str, Any]:
    """What FastAPI is told of a route that returns events, so that the OpenAPI document says so."""
    returns = binding.returns
    is_stream = isinstance(returns, type) and issubclass(returns, Events)
    return {"response_class": returns, "status_code": 200} if is_stream else {}


_END: Any = object()


def _pulled(events: AsyncIterator[Any]) -> asyncio.Task[Any]:
    async def pull() -> Any:
        return await anext(events, _END)

    return asyncio.create_task(pull())


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_stopping(scope: Scope) -> bool:
    hosts = getattr(scope["app"].state, HOSTS, ())
    return any(host.health.reasons.get("service") == STOPPING for host in hosts)


def _framed(value: Any) -> bytes:
    sent = value if isinstance(value, Sent) else Sent(value)
    told, is_text = told_as(sent.data)
    if not is_text:
        raise TypeError("An event of a stream is bytes. Server-sent events carry text alone.")
    lines = [f"id: {sent.id}"] if sent.id is not None else []
    lines += [f"event: {sent.event}"] if sent.event is not None else []
    lines += [f"data: {line}" for line in _LINES.split(told.decode())]
    return "\n".join([*lines, "\n"]).encode()
