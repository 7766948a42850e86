"""The server, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.responses import PlainTextResponse

from torpor.adapters.http.edge import Edge
from torpor.adapters.http.server import HttpServer
from torpor.kernel.errors import ConfigurationError, NotRunning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

PATIENCE = 10.0


class Gate:
    """An application that answers once its gate is open."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.is_cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        await PlainTextResponse("through")(scope, receive, send)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after it has read the whole body."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await PlainTextResponse(f"{size} bytes")(scope, receive, send)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[tuple[HttpServer, httpx.AsyncClient]]:
    """A server on a free port, and a client of it."""
    server = HttpServer(app, "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE) as client:
        try:
            yield server, client
        finally:
            await server.stop(PATIENCE)


async def test_it_serves_on_a_free_port() -> None:
    """Port 0 takes a free port, which the server tells; the response does not name the server."""
    async with served(hello) as (_, client):
        answer = await client.post("/", content=b"four")
        assert (answer.status_code, answer.text) == (200, "4 bytes")
        assert "server" not in answer.headers
        assert "date" in answer.headers


async def test_it_serves_a_socket_that_already_listens() -> None:
    """A listener that was opened early is taken as it is."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(hello, listener=listener)
    port = listener.getsockname()[1]
    assert server.port == port
    await server.start()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "0 bytes"
    await server.stop(PATIENCE)
    assert listener.fileno() == -1
    assert server.port == port


async def test_a_port_in_use_is_told_with_the_remedy() -> None:
    """The message names the port, the host and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as raised:
            await HttpServer(hello, "127.0.0.1", port).start()
    remedy = "Stop what listens there, or choose another with --port or TORPOR_HTTP_PORT."
    assert raised.value.problems == (f"Port {port} on 127.0.0.1 is in use. {remedy}",)


@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 64])
async def test_an_address_of_another_machine_is_told(host: str) -> None:
    """A host that is not this machine's is a mistake of the settings."""
    with pytest.raises(ConfigurationError, match=r"is no address of this machine .*TORPOR_HTTP_HOST"):
        await HttpServer(hello, host, 0).start()


async def test_a_server_that_has_not_started_has_no_port() -> None:
    """Its port is asked too early, and stopping it is nothing."""
    server = HttpServer(hello, "127.0.0.1", 0)
    with pytest.raises(NotRunning, match="start"):
        _ = server.port
    await server.stop()


async def test_stopping_waits_for_requests_under_way() -> None:
    """A request in flight is answered, while no new connection is taken; a second stop is nothing."""
    gate = Gate()
    async with served(gate) as (server, client):
        request = asyncio.create_task(client.get("/"))
        await asyncio.wait_for(gate.entered.wait(), PATIENCE)
        stopping = asyncio.create_task(server.stop(PATIENCE))
        await refuses(server)
        assert not request.done()
        gate.open.set()
        assert (await request).text == "through"
        await stopping
    assert not gate.is_cancelled


async def refuses(server: HttpServer) -> None:
    """Waits until the server takes no connection."""
    port, deadline = server.port, asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
    pytest.fail("The server still takes connections.")


async def test_stopping_ends_what_takes_too_long() -> None:
    """A request that outlasts the time is cancelled, and has ended when stop returns."""
    gate = Gate()
    async with served(gate) as (server, client):
        request = asyncio.create_task(client.get("/"))
        await asyncio.wait_for(gate.entered.wait(), PATIENCE)
        await server.stop(0.05)
        assert gate.is_cancelled
        assert (await request).status_code == 500


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    """A client that keeps its connection open waits for nothing, so the server does not wait for it."""
    async with served(hello) as (server, client):
        await client.get("/")
        async with asyncio.timeout(PATIENCE / 2):
            await server.stop(PATIENCE)


async def test_signals_are_left_alone() -> None:
    """Whoever runs the server handles the process's signals."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with served(hello):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_failure_that_the_edge_has_told_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """One traceback for a failing route, on a real server as well."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("once")

    async with served(Edge(fails, body_limit=1, bindings={})) as (_, client):
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["detail"]) == (500, "Internal Server Error")
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["torpor.http"]


async def test_a_failure_that_nobody_has_told_is_told_by_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """An application without our edge does not fail in silence."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("loud")

    async with served(fails) as (_, client):
        assert (await client.get("/")).status_code == 500
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["uvicorn.error"]


async def test_a_body_over_the_limit_is_refused_and_the_client_reads_why() -> None:
    """The answer reaches a client that is still sending, and the connection serves on."""
    async with served(Edge(hello, body_limit=1000, bindings={})) as (_, client):
        answer = await client.post("/", content=b"x" * 5_000_000)
        assert answer.status_code == 413
        assert "1000 bytes" in answer.json()["detail"]
        assert (await client.post("/", content=b"x" * 1000)).text == "1000 bytes"
