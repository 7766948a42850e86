"""Server-sent events: how they are written, and when they end."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from torpor import Compressed, ConfigurationError, Cors, ETags, Events, LastEventId, Limit, Sent, Service, Timeout
from torpor.adapters.http.server import HttpServer
from torpor.assembly import assemble
from torpor.runtime.settings import Settings
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 20


class Request:
    """One request, as a server hands it to an application."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_over = False
        self.gone = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self.scope: Any = {"type": "http", "path": "/feed", "app": SimpleNamespace(state=SimpleNamespace())}

    async def receive(self) -> Any:
        """Waits until the client goes."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Takes what is sent, when it does."""
        await self.takes.wait()
        if message["type"] == "http.response.body":
            self.sent.append(message["body"])
            self.is_over = not message.get("more_body", False)


class Feed:
    """An iterator that yields what it is given, then waits, and tells that it was closed."""

    def __init__(self, *values: Any) -> None:
        self.values = values
        self.taken = 0
        self.is_closed = False

    async def read(self) -> AsyncIterator[Any]:
        """The values."""
        try:
            for value in self.values:
                self.taken += 1
                yield value
            await asyncio.Event().wait()
        finally:
            self.is_closed = True


async def until(condition: Any) -> None:
    """Waits for a fact."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # a fact of any kind has no event
            await asyncio.sleep(0.005)


async def test_values_are_written_by_the_format() -> None:
    """Text as it is, line by line, other values as JSON, and ids and names before them."""
    service = Service("feed", public=True)

    @service.get("/feed")
    async def feed(last: LastEventId = None) -> Events:
        async def values() -> AsyncIterator[Any]:
            yield f"after {last}"
            yield "two\r\nlines\rand\none"
            yield Sent({"a": 1}, id="7", event="change")

        return Events(values(), retry=0.5)

    async with TestShop(service) as shop:
        answer = await shop.get("/feed", headers={"last-event-id": "6"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text == (
        "retry: 500\n\ndata: after 6\n\ndata: two\ndata: lines\ndata: and\ndata: one\n\n"
        'id: 7\nevent: change\ndata: {"a":1}\n\n'
    )


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0"])
def test_an_id_is_one_line(text: str) -> None:
    """Nothing can be smuggled into a stream by an id or a name."""
    with pytest.raises(ConfigurationError, match="one line"):
        Sent("x", id=text)
    with pytest.raises(ConfigurationError, match="one line"):
        Sent("x", event=text)


async def test_silence_is_filled_and_the_end_of_a_client_closes_the_iterator() -> None:
    """A comment is sent while there is nothing to say; nobody is left waiting once the client is gone."""
    request, feed = Request(), Feed("one")
    task = asyncio.create_task(Events(feed.read(), heartbeat=0.01)(request.scope, request.receive, request.send))
    await until(lambda: request.sent.count(b":\n\n") >= 2)
    request.gone.set()
    await task
    assert request.sent[0] == b"data: one\n\n"
    assert feed.is_closed
    assert not request.is_over


async def test_an_iterator_waits_for_its_client() -> None:
    """Nothing is asked for while the client takes nothing, and after its patience it is let go."""
    request, feed = Request(), Feed(*range(100))

    async def sent(message: Any) -> None:
        if feed.taken == 3:
            request.takes.clear()
        await request.send(message)

    await Events(feed.read(), patience=0.05)(request.scope, request.receive, sent)
    assert feed.taken == 3
    assert feed.is_closed


async def test_bytes_are_no_event() -> None:
    """A stream of text takes no bytes, and the iterator is closed all the same."""
    request, feed = Request(), Feed(b"\x00")
    with pytest.raises(TypeError, match="text alone"):
        await Events(feed.read())(request.scope, request.receive, request.send)
    assert feed.is_closed


async def test_a_stop_ends_a_stream() -> None:
    """Over a real server a stream ends in order when its service stops, and the stop does not wait for it."""
    service, feed = Service("feed", public=True), Feed("one")

    @service.get("/feed")
    async def follow() -> Events:
        return Events(feed.read())

    deployment = assemble([service], Settings.read({}))
    await deployment.start()
    server = HttpServer(deployment.app, port=0)
    await server.start()
    await until(lambda: deployment.hosts[0].is_ready)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /feed HTTP/1.1\r\nhost: here\r\n\r\n")
    await reader.readuntil(b"data: one\n\n")
    async with asyncio.timeout(DEADLINE):
        await deployment.retire()
        await server.stop(DEADLINE)
        await deployment.stop()
        assert (await reader.read()).endswith(b"0\r\n\r\n")
    assert feed.is_closed
    writer.close()


async def test_the_rules_of_a_route_hold_for_its_stream() -> None:
    """It counts as one request, may last beyond its Timeout, and is sent as it comes, for pages that are named."""
    page = "https://shop.example.com"
    rules = [Limit(1, per=100), Timeout(0.05), Cors(page), ETags(), Compressed(0)]
    service = Service("ruled", public=True, rules=rules)

    @service.get("/feed")
    async def feed() -> Events:
        async def read() -> AsyncIterator[str]:
            yield "first"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asyncio.Event().wait()
            yield "late"

        return Events(read())

    async with TestShop(service) as shop:
        headers = {"origin": page, "accept-encoding": "gzip"}
        answer = await shop.get("/feed", headers=headers)
        assert answer.text == "data: first\n\ndata: late\n\n"
        assert answer.headers["access-control-allow-origin"] == page
        assert {"etag", "content-encoding"}.isdisjoint(answer.headers)
        assert (await shop.get("/feed", headers=headers)).status_code == 429
        schema = (await shop.get("/openapi.json")).json()
        (told,) = schema["paths"]["/feed"]["get"]["responses"]["200"]["content"].items()
        assert told == ("text/event-stream", {"schema": {"type": "string"}})
