"""Bytes to requests: what a connection has read, taken apart by httptools, and held to limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from torpor.adapters.http.answer import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.adapters.http.answer import Answer

_MOST_HEADERS = 100
_MOST_HEADER_BYTES = 65_536
_MOST_URL_BYTES = 8_192
_MOST_AHEAD = 262_144  # what asyncio reads at once
# Most headers are these, however often they come.
_KNOWN = {
    name.encode(): name.lower()
    for words in (
        "content-type content-length host user-agent accept accept-encoding connection traceparent tracestate",
        "Content-Type Content-Length Host User-Agent Accept Accept-Encoding Connection Traceparent Tracestate",
        "ce-id ce-type ce-source ce-specversion ce-time ce-subject ce-partitionkey ce-key",
        "Ce-Id Ce-Type Ce-Source Ce-Specversion Ce-Time Ce-Subject Ce-Partitionkey Ce-Key",
    )
    for name in words.split()
}
_OF_UPGRADES = frozenset({"connection", "http2-settings", "upgrade"})


class Request:
    """A request that has come whole, or the refusal of one that may not."""

    __slots__ = ("body", "headers", "is_last", "method", "path", "refusal")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_last = False  # the connection ends with its answer
        self.refusal: Answer | None = None


class Reader:
    """Reads requests, however their bytes are split, and hands each to `take` once it has come whole.

    What may not be a request is handed over as a refusal, which is the last.
    """

    def __init__(self, take: Callable[[Request], None], *, body_limit: int, begun: Callable[[], None]) -> None:
        self.coming: Request | None = None  # in part
        self.is_over = False  # nothing more is read
        self.owes_continue = False  # the client waits before it sends the body
        self._take = take
        self._begun = begun
        self._body_limit = body_limit
        self._parser = httptools.HttpRequestParser(self)
        self._last: Request | None = None
        self._url = b""
        self._chunks: list[bytes] = []
        self._head = self._size = 0  # bytes of the head and of the body that is coming
        self._ahead = 0  # bytes that have come without an end of the head in sight
        self._has_head = False

    def feed(self, data: bytes) -> None:
        """Reads on."""
        while data and not self.is_over:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._ignore_upgrade() + data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError:
                self.refuse(problem(400, "This is no HTTP request."))
            break
        if self.coming is None or self._has_head:
            self._ahead = 0
            return
        self._ahead += len(data)
        if self._ahead > _MOST_HEADER_BYTES + _MOST_AHEAD:  # one header without an end, of which nothing is told yet
            self.refuse(_too_many())

    def end(self) -> None:
        """Reads no more, and drops what has come in part."""
        self.is_over, self.coming = True, None

    def refuse(self, answer: Answer) -> None:
        """Ends with an answer."""
        self.end()
        request = Request()
        request.refusal, request.is_last = answer, True
        self._take(request)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.is_over:
            return
        self.coming = Request()
        self._url, self._chunks, self._head, self._size = b"", [], 0, 0
        self._has_head = self.owes_continue = False
        self._begun()

    def on_url(self, url: bytes) -> None:
        if self.coming is None:
            return
        self._url += url
        if len(self._url) > _MOST_URL_BYTES:
            self.refuse(problem(414, f"The URL is over the limit of {_MOST_URL_BYTES} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self.coming
        if request is None:
            return
        self._head += len(name) + len(value)
        if not self._has_head:  # what follows a chunked body is none of the request's headers
            known = _KNOWN.get(name) or str(name, "latin-1").lower()
            text = str(value, "latin-1")
            request.headers[known] = f"{request.headers[known]}, {text}" if known in request.headers else text
        if self._head > _MOST_HEADER_BYTES or len(request.headers) > _MOST_HEADERS:
            self.refuse(_too_many())

    def on_headers_complete(self) -> None:
        request = self.coming
        if request is None:
            return
        self._has_head = True
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._body_limit:
            self.refuse(self._too_large())
        elif request.headers.get("expect", "").lower() == "100-continue" and self._parser.get_http_version() != "1.0":
            self.owes_continue = True

    def on_body(self, body: bytes) -> None:
        if self.coming is None:
            return
        self.owes_continue = False  # it has not waited for it
        self._size += len(body)
        if self._size > self._body_limit:
            self.refuse(self._too_large())
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        request = self.coming
        if request is None or (self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"):
            return
        self.coming = None
        request.method = str(self._parser.get_method(), "ascii")
        request.path = _path_of(self._url)
        request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        request.is_last = not self._parser.should_keep_alive() or self._parser.get_http_version() == "1.0"
        self._last = request
        self._take(request)

    def _ignore_upgrade(self) -> bytes:
        """The head of a request without its wish for another protocol, for which the parser has left its body unread;
        nothing for one that wants a tunnel, which ends the connection."""
        request, self.coming = self.coming, None
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if request is None:
            self.is_over = True
            if self._last is not None:
                self._last.is_last = True
            return b""
        self._parser = httptools.HttpRequestParser(self)
        kept = [f"{name}: {value}\r\n" for name, value in request.headers.items() if name not in _OF_UPGRADES]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self._url, version.encode(), "".join(kept).encode("latin-1"))

    def _too_large(self) -> Answer:
        return problem(413, f"The body is over the limit of {self._body_limit} bytes (TORPOR_HTTP_BODY_LIMIT).")


def _too_many() -> Answer:
    return problem(431, f"Send at most {_MOST_HEADERS} headers and {_MOST_HEADER_BYTES} bytes of them.")


def _path_of(url: bytes) -> str:
    try:
        path = url.partition(b"?")[0] if url.startswith(b"/") else httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError:
        return "*"  # as in OPTIONS *
    text = str(path, "latin-1")
    if "%" in text:
        from urllib.parse import unquote

        text = unquote(text)
    return text
