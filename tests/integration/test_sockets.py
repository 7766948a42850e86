"""WebSockets over real connections: handshakes, frames, limits, slow clients, drains, and several replicas on NATS."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets_of_the_system
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from torpor import BodyLimit, Caller, CustomAuth, Limit, Service, Socket, SocketLimits
from torpor.adapters.http.server import HttpServer
from torpor.assembly import assemble
from torpor.kernel.frames import TEXT, frame
from torpor.runtime.settings import Settings
from torpor.runtime.sockets import encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.assembly import Deployment

    Serve = Callable[..., Any]

DEADLINE = 30


class Running:
    """A service behind a server."""

    def __init__(self, deployment: Deployment, server: HttpServer) -> None:
        self.deployment = deployment
        self.server = server
        (self.host,) = deployment.hosts

    def url(self, path: str) -> str:
        """The URL of a socket."""
        return f"ws://127.0.0.1:{self.server.port}{path}"

    async def stop(self) -> None:
        """As `torpor run` does."""
        await self.deployment.retire()
        await self.server.stop(5)
        await self.deployment.stop(5)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a fact."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # a fact of any kind has no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves services; each is ready when it is returned."""
    async with contextlib.AsyncExitStack() as exits:

        async def serve(service: Service, broker_url: str | None = None) -> Running:
            environ = {} if broker_url is None else {"TORPOR_BROKER_URL": broker_url}
            deployment = assemble([service], Settings.read(environ))
            await deployment.start()
            server = HttpServer(deployment.app, port=0, sockets=deployment.sockets)
            await server.start()
            running = Running(deployment, server)
            exits.push_async_callback(running.stop)
            await until(lambda: running.host.is_ready)
            return running

        yield serve


def chat_service(limits: SocketLimits | None = None, **options: Any) -> Service:
    """A chat in rooms."""
    chat = Service("chat", **(options or {"public": True}))

    async def come(socket: Socket, room: str) -> None:
        socket.join(room)
        socket.send("welcome")

    @chat.socket("/chat/{room}", connect=come, limits=limits or SocketLimits(), subprotocols=["chat.v1"])
    async def talk(message: str, socket: Socket, room: str) -> None:
        socket.broadcast(room, message)

    return chat


async def known(headers: Mapping[str, str]) -> Caller | None:
    """Who says a name is believed."""
    name = headers.get("x-name")
    return None if name is None else Caller(name, kind="custom")


async def test_a_broadcast_reaches_all_clients_of_a_room(serve: Serve) -> None:
    """Two clients of a real server hear what one of them says."""
    running = await serve(chat_service())
    async with connect(running.url("/chat/a")) as ada, connect(running.url("/chat/a")) as grace:
        assert [await ada.recv(), await grace.recv()] == ["welcome", "welcome"]
        await ada.send("h€llo")
        assert [await ada.recv(), await grace.recv()] == ["h€llo", "h€llo"]
        await ada.send("x" * 60_000)
        assert len(await grace.recv()) == 60_000
        await ada.send(["in ", "three ", "parts"])
        assert await grace.recv() == "in three parts"
        assert await (await ada.ping()) > 0


async def test_two_replicas_on_nats_share_a_room(serve: Serve, nats_server: EmbeddedNats) -> None:
    """A broadcast reaches the members of a group in every replica, once, in order."""
    first = await serve(chat_service(), nats_server.url)
    second = await serve(chat_service(), nats_server.url)
    async with connect(first.url("/chat/a")) as ada, connect(second.url("/chat/a")) as grace:
        assert [await ada.recv(), await grace.recv()] == ["welcome", "welcome"]
        for number in range(100):
            await ada.send(str(number))
            if number % 10 == 9:
                await asyncio.sleep(0)
        for client in (ada, grace):
            async with asyncio.timeout(DEADLINE):
                assert [await client.recv() for _ in range(100)] == [str(number) for number in range(100)]
        await grace.send("back")
        assert [await ada.recv(), await grace.recv()] == ["back", "back"]


async def test_one_connection_is_reached_through_another_replica(serve: Serve, nats_server: EmbeddedNats) -> None:
    """A connection is found by its name, wherever it is."""

    def named() -> Service:
        service = Service("named", public=True)

        async def come(socket: Socket) -> None:
            socket.send(socket.id)

        @service.socket("/named", connect=come)
        async def talk(message: str, socket: Socket) -> None:
            socket.broadcast("nobody", message)

        return service

    first, second = await serve(named(), nats_server.url), await serve(named(), nats_server.url)
    async with connect(first.url("/named")) as client:
        name = await client.recv()
        board = second.host.sockets.registry
        board.send_to(name, encoded(b"over there"))
        async with asyncio.timeout(DEADLINE):
            assert await client.recv() == b"over there"


@pytest.mark.parametrize(
    ("headers", "origin", "status"),
    [({}, None, 401), ({"x-name": "ada"}, "https://evil.example", 403)],
)
async def test_who_may_not_connect_is_answered_over_http(
    serve: Serve, headers: dict[str, str], origin: Any, status: int
) -> None:
    """A refusal comes before the upgrade, as a problem."""
    running = await serve(chat_service(auth=CustomAuth(known)))
    with pytest.raises(InvalidStatus) as caught:
        await connect(running.url("/chat/a"), additional_headers=headers, origin=origin)
    answer = caught.value.response
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("www-authenticate" in answer.headers) is (status == 401)


async def test_a_subprotocol_is_agreed_on(serve: Serve) -> None:
    """The answer names it."""
    running = await serve(chat_service())
    async with connect(running.url("/chat/a"), subprotocols=["other", "chat.v1"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "chat.v1"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sec-websocket-version": "8"}, b"426"),
        ({"sec-websocket-key": "short"}, b"400"),
        ({"sec-websocket-key": "é" * 24}, b"400"),
    ],
)
async def test_a_handshake_that_is_none_is_refused(serve: Serve, change: dict[str, str], status: bytes) -> None:
    """Another version, or no key, is answered with what is wrong."""
    running = await serve(chat_service())
    answer = await said(running, handshake(**change))
    assert answer.split(b" ")[1] == status
    assert (b"sec-websocket-version: 13" in answer) is (status == b"426")


def handshake(**change: str) -> bytes:
    """A request for an upgrade."""
    headers = {
        "host": "here", "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", **change,
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET /chat/a HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


async def said(running: Running, request: bytes) -> bytes:
    """All that a server says to some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    return answer


async def test_who_connects_too_often_is_told_before_the_upgrade(serve: Serve) -> None:
    """429 with the fields of a limit, for the address that the proxy on this machine tells."""
    running = await serve(chat_service(rules=[Limit(1, per=1000)], public=True))
    here = {"x-forwarded-for": "203.0.113.7"}
    async with connect(running.url("/chat/a"), additional_headers=here):
        with pytest.raises(InvalidStatus) as caught:
            await connect(running.url("/chat/a"), additional_headers=here)
    answer = caught.value.response
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1000"
    assert answer.headers["ratelimit-policy"] == '"client";q=1;w=1000'
    assert answer.headers["ratelimit"] == '"client";r=0;t=1000'
    async with connect(running.url("/chat/a"), additional_headers={"x-forwarded-for": "203.0.113.8"}):
        pass


async def test_a_message_that_is_too_large_closes(serve: Serve) -> None:
    """1009, without having read all of it."""
    running = await serve(chat_service(rules=[BodyLimit(1000)], public=True))
    async with connect(running.url("/chat/a")) as client:
        await client.recv()
        await client.send("x" * 1001)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


async def test_a_client_that_breaks_the_protocol_is_closed(serve: Serve) -> None:
    """A frame without a mask is answered with 1002."""
    running = await serve(chat_service())
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    writer.write(handshake())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(frame(TEXT, b"welcome")))
    writer.write(frame(TEXT, b"unmasked"))
    async with asyncio.timeout(DEADLINE):
        head = await reader.readexactly(4)
    assert (head[0], int.from_bytes(head[2:], "big")) == (0x88, 1002)
    writer.close()
    await until(lambda: len(running.host.sockets.registry) == 0)


async def test_a_client_that_reads_nothing_is_dropped_and_slows_nobody(serve: Serve) -> None:
    """What waits for it is bounded; the others get everything meanwhile."""
    running = await serve(chat_service(SocketLimits(buffer=100_000, rate=10_000, burst=10_000)))
    stalled = sockets_of_the_system.socket()
    stalled.setsockopt(sockets_of_the_system.SOL_SOCKET, sockets_of_the_system.SO_RCVBUF, 4096)
    stalled.connect(("127.0.0.1", running.server.port))
    stalled.sendall(handshake())
    await until(lambda: len(running.host.sockets.registry) == 1)
    async with connect(running.url("/chat/a"), max_size=None) as client:
        await client.recv()
        for _ in range(1000):
            await client.send("x" * 60_000)
            assert len(await client.recv()) == 60_000
            if len(running.host.sockets.registry) == 1:
                break
        assert len(running.host.sockets.registry) == 1
        await client.send("on")
        assert await client.recv() == "on"
    families = {family.name: family.samples for family in running.host.metrics.families()}
    assert ({"service": "chat", "reason": "slow"}, 1.0) in families["torpor_connections_dropped"]
    stalled.close()


async def test_a_client_that_is_silent_for_too_long_is_dropped(serve: Serve) -> None:
    """One that answers pings stays, and one that is gone without a word does not."""
    running = await serve(chat_service(SocketLimits(heartbeat=0.05)))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    writer.write(handshake())
    async with connect(running.url("/chat/a")) as client:
        async with asyncio.timeout(DEADLINE):
            assert b"\x89\x00" in await reader.read()  # to its end: it was pinged, and let go
        assert len(running.host.sockets.registry) == 1
        await client.recv()
        await client.send("here")
        assert await client.recv() == "here"
    writer.close()


async def test_a_client_that_is_gone_leaves_nothing(serve: Serve) -> None:
    """A connection that is cut is out of its groups, and its handler has been told 1006."""
    told: list[int | None] = []
    service = Service("gone", public=True)

    async def come(socket: Socket) -> None:
        socket.join("all")

    async def go(socket: Socket) -> None:
        told.append(socket.close_code)

    @service.socket("/gone", connect=come, disconnect=go)
    async def hear(message: str) -> None: ...

    running = await serve(service)
    client = await connect(running.url("/gone"))
    client.transport.abort()
    await until(lambda: told == [1006])
    assert len(running.host.sockets.registry) == 0
    await client.wait_closed()


async def test_a_stop_says_goodbye_once_what_was_said_is_handled(serve: Serve) -> None:
    """1001, and the answer of a handler that was under way comes first; nobody new is let in."""
    go_on, service = asyncio.Event(), Service("slow", public=True)

    @service.socket("/slow")
    async def hear(message: str) -> str:
        await go_on.wait()
        return message

    running = await serve(service)
    async with connect(running.url("/slow")) as busy, connect(running.url("/slow")) as idle:
        await busy.send("under way")
        await until(lambda: running.host.metrics.of("slow.hear").in_flight == 1)
        stopping = asyncio.create_task(running.stop())
        with pytest.raises(ConnectionClosed) as caught:
            await idle.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        with pytest.raises((InvalidStatus, OSError)):
            await connect(running.url("/slow"))
        go_on.set()
        assert await busy.recv() == "under way"
        with pytest.raises(ConnectionClosed) as last:
            await busy.recv()
        assert last.value.rcvd is not None
        assert last.value.rcvd.code == 1001
        await stopping


async def test_a_client_comes_back_to_another_replica(serve: Serve, nats_server: EmbeddedNats) -> None:
    """Who is sent away by a stop finds its group again elsewhere."""
    first = await serve(chat_service(), nats_server.url)
    second = await serve(chat_service(), nats_server.url)
    async with connect(second.url("/chat/a")) as grace:
        await grace.recv()
        async with connect(first.url("/chat/a")) as ada:
            await ada.recv()
            await first.stop()
            with pytest.raises(ConnectionClosed):
                await ada.recv()
        async with connect(second.url("/chat/a")) as ada:
            await ada.recv()
            await ada.send("again")
            assert [await ada.recv(), await grace.recv()] == ["again", "again"]
