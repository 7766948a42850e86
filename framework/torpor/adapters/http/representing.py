"""How answers go out: tagged, compressed, or marked as on their way out. Each a plain ASGI layer around its routes."""

from __future__ import annotations

import asyncio
import gzip
from email.utils import format_datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from torpor.adapters.http.edge import show
from torpor.kernel.media import is_json, media_of
from torpor.kernel.preconditions import ENCODED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from torpor.kernel.representation import Deprecated

    Headers = list[tuple[bytes, bytes]]

_OK, _NOT_MODIFIED = 200, 304
_ENCODED = f'{ENCODED}"'.encode()
_READS = frozenset({"GET", "HEAD"})
_SLOW = 262_144  # bytes whose compression would hold up the loop
_LEVEL = 6
_TEXTS = ("application/javascript", "application/xml", "image/svg+xml")
_NOT_OF_304 = frozenset({b"content-length", b"content-type", b"content-encoding"})


class WholeApp:
    """A route whose answers are changed when they are whole. One that comes in parts is sent as it comes."""

    __slots__ = ("_app", "_change")

    def __init__(
        self, app: ASGIApp, change: Callable[[Scope, Message, bytes], Awaitable[tuple[Message, bytes]]]
    ) -> None:
        self._app = app
        self._change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        held: Message | None = None

        async def send_whole(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and message["status"] == _OK:
                held = message
                return
            if held is not None:
                start, held = held, None
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    start, message["body"] = await self._change(scope, start, message.get("body", b""))
                await send(start)
            await send(message)

        await self._app(scope, receive, send_whole)


async def tagged(scope: Scope, start: Message, body: bytes) -> tuple[Message, bytes]:
    """Tags an answer, and leaves out its body for who has it."""
    if scope["method"] not in _READS:
        return start, body
    headers: Headers = list(start.get("headers", ()))
    tag = _of(headers, b"etag")
    if tag is None:
        tag = b'"%s"' % blake2b(body, digest_size=16).hexdigest().encode()
        headers.append((b"etag", tag))
    known = _of(scope["headers"], b"if-none-match")
    if known is None or not _has(known, tag):
        return {**start, "headers": headers}, body
    kept = [(name, value) for name, value in headers if name not in _NOT_OF_304]
    return {**start, "status": _NOT_MODIFIED, "headers": kept}, b""


def compressed(least: int) -> Callable[[Scope, Message, bytes], Awaitable[tuple[Message, bytes]]]:
    """What compresses answers of so many bytes."""

    async def compress(scope: Scope, start: Message, body: bytes) -> tuple[Message, bytes]:
        headers: Headers = list(start.get("headers", ()))
        if len(body) < least or not _may_be_compressed(headers):
            return start, body
        headers.append((b"vary", b"Accept-Encoding"))
        if not takes_gzip(_of(scope["headers"], b"accept-encoding") or b""):
            return {**start, "headers": headers}, body
        packed = await asyncio.to_thread(_packed, body) if len(body) > _SLOW else _packed(body)
        is_read = scope["method"] in _READS  # the tag of a write is that of the state which it has left
        changed = [_repacked(name, value, len(packed), is_read=is_read) for name, value in headers]
        return {**start, "headers": [*changed, (b"content-encoding", b"gzip")]}, packed

    return compress


class DeprecatedApp:
    """A route that is on its way out."""

    __slots__ = ("_app", "_told")

    def __init__(self, app: ASGIApp, deprecated: Deprecated) -> None:
        self._app = app
        self._told = [(b"deprecation", b"@%d" % deprecated.since.timestamp())]
        if deprecated.sunset is not None:
            self._told.append((b"sunset", format_datetime(deprecated.sunset, usegmt=True).encode()))
        if deprecated.link is not None:
            self._told.append((b"link", f'<{deprecated.link}>; rel="deprecation"; type="text/html"'.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        show(scope, self._told)
        await self._app(scope, receive, send)


def _of(headers: Headers, wanted: bytes) -> bytes | None:
    found = [value for name, value in headers if name == wanted]
    return b",".join(found) if found else None


def _has(known: bytes, tag: bytes) -> bool:
    """Whether a tag is among those of If-None-Match, which compares weakly."""
    tags = {one.strip().removeprefix(b"W/") for one in known.split(b",")}
    return b"*" in tags or tag.removeprefix(b"W/") in tags


def _may_be_compressed(headers: Headers) -> bool:
    content_type = (_of(headers, b"content-type") or b"").decode("latin-1")
    is_text = media_of(content_type).startswith("text/") or media_of(content_type) in _TEXTS or is_json(content_type)
    is_fixed = b"no-transform" in (_of(headers, b"cache-control") or b"").lower()
    return is_text and not is_fixed and _of(headers, b"content-encoding") is None


def takes_gzip(accepted: bytes) -> bool:
    """Whether Accept-Encoding names gzip, or anything, with a weight above 0."""
    weights: dict[bytes, bool] = {}
    for one in accepted.lower().split(b","):
        name, _, parameters = one.partition(b";")
        weight = parameters.replace(b" ", b"").removeprefix(b"q=")
        weights[name.strip()] = weight.strip(b"0.") != b"" or not weight
    return weights.get(b"gzip", weights.get(b"*", False))


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, _LEVEL, mtime=0)  # the same each time, as its tag is


def _repacked(name: bytes, value: bytes, length: int, *, is_read: bool) -> tuple[bytes, bytes]:
    if name == b"content-length":
        return name, b"%d" % length
    if is_read and name == b"etag" and not value.startswith(b"W/"):  # it was that of other bytes; `Match` knows both
        return name, value[:-1] + _ENCODED
    return name, value
