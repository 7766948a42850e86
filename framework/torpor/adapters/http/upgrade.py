"""WebSockets on uvicorn: a protocol of our own in the place of its, which needs no task and no queue of a client."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from hashlib import sha1
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from torpor.adapters.http.answer import problem
from torpor.kernel.frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    LATER,
    PING,
    PONG,
    Decoder,
    Violation,
    close_frame,
    closing,
    frame,
)  # fmt: skip
from torpor.runtime.peer import Knock, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torpor.adapters.http.sockets import SocketDoor
    from torpor.runtime.peer import Peer
    from torpor.runtime.switchboard import Switchboard

    Proxied = Callable[[Any, Any, Any], Awaitable[Any]]

_log = logging.getLogger("torpor.http")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_NONCE = 16
_GOODBYE_SECONDS = 5.0


class SocketProtocol(asyncio.Protocol):
    """One connection, from its upgrade on. uvicorn hands it the request as bytes, and the transport."""

    __slots__ = ("_board", "_decoder", "_door", "_is_closing", "_most", "_peer", "_proxied", "_task", "_transport")

    def __init__(self, door: SocketDoor, proxied: Proxied | None = None) -> None:
        self._door = door
        self._proxied = proxied
        self._transport: Any = None
        self._board: Switchboard | None = None
        self._peer: Peer | None = None
        self._decoder: Decoder | None = None
        self._task: asyncio.Task[None] | None = None
        self._most = 0
        self._is_closing = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._peer is None:
            if self._task is None:  # the request; nobody says more before it is answered
                self._transport.pause_reading()
                self._task = asyncio.get_running_loop().create_task(self._greet(data), name="websocket")
            return
        board, peer, decoder = self._board, self._peer, self._decoder
        if board is None or decoder is None:
            return
        try:
            for kind, payload in decoder.feed(data):
                if kind == CLOSE:
                    self._said_goodbye(payload)
                    return
                if self._is_closing:
                    continue
                if kind <= BINARY:
                    board.received(peer, payload)
                elif board.heard(peer) and kind == PING:
                    self.write(frame(PONG, payload))  # type: ignore[arg-type]  # a control frame's are bytes
        except Violation as violation:
            self.close(violation.code, str(violation))
            self._decoder = None  # what follows means nothing

    def connection_lost(self, exc: Exception | None) -> None:  # the name is asyncio's
        self._is_closing = True
        self._decoder = None
        if self._board is not None and self._peer is not None:
            self._board.left(self._peer, ABNORMAL)

    def write(self, framed: bytes) -> None:
        """Sends a frame, unless too much waits already."""
        if self._is_closing:
            return
        transport = self._transport
        transport.write(framed)
        if transport.get_write_buffer_size() > self._most and self._board is not None and self._peer is not None:
            self._board.dropped(self._peer, "slow")
            self.close(LATER, "too slow")

    def close(self, code: int, reason: str) -> None:
        """Says goodbye; lets go after a while of a client that does not answer it."""
        if self._is_closing:
            return
        self._is_closing = True
        self._transport.write(close_frame(code, reason))
        self.resume()
        if self._board is not None and self._peer is not None:
            self._board.left(self._peer, code)
        asyncio.get_running_loop().call_later(_GOODBYE_SECONDS, self._transport.abort)

    def abort(self) -> None:
        """Lets go at once."""
        self._transport.abort()

    def pause(self) -> None:
        """Reads no more for now."""
        if not self._is_closing:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _said_goodbye(self, payload: Any) -> None:
        if not self._is_closing:
            try:
                code, _ = closing(payload)
            except Violation as violation:
                self.close(violation.code, str(violation))
                return
            self._is_closing = True
            self._transport.write(close_frame(code))
            if self._board is not None and self._peer is not None:
                self._board.left(self._peer, code)
        self._transport.close()

    async def _greet(self, request: bytes) -> None:
        try:
            knock = _read(request)
            key = _checked(knock)
            knock.client = await self._client(knock)
            board, peer = await self._door.let_in(knock, self)
        except Refused as refused:
            self._refuse(refused)
            return
        except Exception:  # noqa: BLE001  # whatever it is, the client is answered and the log told
            self._refuse(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error"))
            _log.exception("a WebSocket could not be let in")
            return
        finally:
            self._task = None
        limits = peer.binding.limits
        self._most, self._decoder = limits.buffer, Decoder(peer.binding.message_size)
        agreed = peer.subprotocol
        protocol = b"" if agreed is None else b"sec-websocket-protocol: %b\r\n" % agreed.encode()
        is_gone = self._transport.is_closing()
        if not is_gone:
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-accept: %b\r\n%b\r\n" % (_accept(key), protocol)
            )
        self._board, self._peer = board, peer
        board.accepted(peer)
        if is_gone:
            board.left(peer, ABNORMAL)
        else:
            self.resume()

    async def _client(self, knock: Knock) -> str:
        """The client's address: as a proxy tells it that may, by the rule that holds for requests."""
        address = self._transport.get_extra_info("peername")
        if not isinstance(address, tuple):
            return ""
        scope = {"type": "websocket", "client": address[:2], "headers": [
            (name.encode(), value.encode("latin-1")) for name, value in knock.headers.items()]}  # fmt: skip
        if self._proxied is not None:
            await self._proxied(scope, None, None)
        return str(scope["client"][0])

    def _refuse(self, refused: Refused) -> None:
        if self._transport.is_closing():
            return
        answer = problem(refused.status, str(refused))
        version = (("sec-websocket-version", _VERSION),) if refused.status == HTTPStatus.UPGRADE_REQUIRED else ()
        challenge = (("www-authenticate", "Bearer"),) if refused.status == HTTPStatus.UNAUTHORIZED else ()
        end = ("content-length", str(len(answer.body))), ("connection", "close")
        headers = [*answer.headers, *refused.headers.items(), *version, *challenge, *end]
        try:
            phrase = HTTPStatus(refused.status).phrase
        except ValueError:
            phrase = "Refused"
        head = f"HTTP/1.1 {refused.status} {phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
        self._transport.write(head.encode() + b"\r\n" + answer.body)
        self._transport.close()


def _read(request: bytes) -> Knock:
    """The request, whose form uvicorn's parser has checked."""
    head, *lines = request.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
    method, url, _ = head.split(" ", 2)
    if method != "GET":
        raise Refused(405, "A WebSocket begins with GET.")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path, _, query = url.partition("?")
    return Knock(unquote(path), query.partition("#")[0], headers)


def _checked(knock: Knock) -> bytes:
    """The key of a handshake that is one. Raises Refused."""
    if knock.headers.get("sec-websocket-version") != _VERSION:
        raise Refused(426, "This server speaks version 13 of the WebSocket protocol.")
    key = knock.headers.get("sec-websocket-key", "").encode("latin-1")
    try:
        is_key = len(base64.b64decode(key, validate=True)) == _NONCE
    except binascii.Error:
        is_key = False
    if not is_key:
        raise Refused(400, "There is no Sec-WebSocket-Key of 16 bytes.")
    return key


def _accept(key: bytes) -> bytes:
    return base64.b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
