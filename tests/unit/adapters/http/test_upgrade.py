"""The protocol of a WebSocket, on a transport that is none: whatever comes, it ends well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from torpor import Caller, CustomAuth, Service
from torpor.adapters.http.upgrade import SocketProtocol
from torpor.testing import TestShop

if TYPE_CHECKING:
    import pytest

HELLO = (
    b"GET /echo HTTP/1.1\r\nhost: here\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
KINDS = st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG])
FRAMES = st.builds(
    lambda kind, payload, is_final: Frame(kind, payload if kind < Opcode.CLOSE else payload[:125], fin=is_final),
    KINDS,
    st.binary(max_size=200),
    st.booleans(),
)
PIECES = st.one_of(
    st.binary(max_size=60),
    FRAMES.filter(lambda frame: frame.fin or frame.opcode < Opcode.CLOSE).map(lambda frame: frame.serialize(mask=True)),
)


class Transport:
    """Keeps what is written, and whether it is open and read."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        """Keeps it."""
        self.written += data

    def close(self) -> None:
        """Ends."""
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self.is_closed

    def get_extra_info(self, name: str) -> None:
        """Nobody is at the other end."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits here."""
        return 0

    def pause_reading(self) -> None:
        """Reads no more."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """Reads again."""
        self.is_reading = True


def echo() -> Service:
    """A service with one socket."""
    service = Service("echo", public=True)

    @service.socket("/echo")
    async def talk(message: bytes) -> bytes:
        return message

    return service


async def opened(shop: Any) -> tuple[SocketProtocol, Transport]:
    """A connection after its upgrade."""
    protocol, transport = SocketProtocol(shop._running.sockets), Transport()  # there is no server here
    protocol.connection_made(transport)
    protocol.data_received(HELLO)
    await shop.until(lambda: bool(transport.written))
    return protocol, transport


@given(st.lists(PIECES, max_size=10))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_the_connection_ends_well(pieces: list[bytes]) -> None:
    """No bytes raise anything, and nothing of a connection is left when it is lost."""

    async def run() -> None:
        async with TestShop(echo()) as shop:
            protocol, transport = await opened(shop)
            assert transport.written.startswith(b"HTTP/1.1 101 ")
            for piece in pieces:
                protocol.data_received(piece)
            await shop.settle()
            protocol.connection_lost(None)
            await shop.settle()
            assert shop.hosts[0].metrics.connections == 0

    asyncio.run(run())


async def test_reading_waits_for_the_handler() -> None:
    """Of what a client sends faster than it is handled a little is kept, and no more is read for a while."""
    go_on = asyncio.Event()
    service = Service("slow", public=True)

    @service.socket("/echo")
    async def talk(message: bytes) -> None:
        await go_on.wait()

    async with TestShop(service) as shop:
        protocol, transport = await opened(shop)
        protocol.data_received(Frame(Opcode.BINARY, b"x").serialize(mask=True) * 20)
        seen = [transport.is_reading]
        go_on.set()
        await shop.settle()
        assert [*seen, transport.is_reading] == [False, True]
        protocol.connection_lost(None)


async def test_a_guard_that_breaks_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is answered 500, and logged."""
    service = Service("broken")

    async def known(headers: Any) -> Caller:
        return headers  # type: ignore[no-any-return]  # no caller at all

    @service.socket("/echo", auth=CustomAuth(known).needs("chat"))
    async def talk(message: bytes) -> None: ...

    async with TestShop(service) as shop:
        _, transport = await opened(shop)
        assert transport.written.startswith(b"HTTP/1.1 500 ")
        assert transport.is_closed
    assert "could not be let in" in caplog.text
