"""Bytes to requests: what a connection has read, taken apart by httptools, and held to limits."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import httptools

from torpor.adapters.http.answer import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.adapters.http.answer import Answer

_MOST_HEADERS = 100
_MOST_HEADER_BYTES = 65_536
_MOST_URL_BYTES = 8_192
_MOST_AHEAD = 262_144  # of what is no body: a header without an end, or trailers
_OF_UPGRADES = frozenset({"connection", "http2-settings", "upgrade"})


class Request:
    """A request that has come whole, or the refusal of one that may not, which has no method. What few need of it is
    made when it is asked for."""

    __slots__ = ("answer", "body", "fields", "is_last", "method", "reply", "url")

    def __init__(
        self,
        reply: Callable[[Request, Answer], None],
        *,
        method: bytes = b"",
        url: bytes = b"",
        fields: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        is_last: bool = False,
        answer: Answer | None = None,
    ) -> None:
        self.reply = reply  # to be called once, with this and the answer
        self.method = method
        self.url = url
        self.fields = fields  # the headers as they came
        self.body = body
        self.is_last = is_last  # the connection ends with its answer
        self.answer = answer

    @property
    def path(self) -> str:
        """What is asked for, without the query."""
        return _path_of(self.url)

    @property
    def headers(self) -> dict[str, str]:
        """The headers by their names in lower case; those that came twice are joined."""
        return _headers_of(self.fields)


class Reader:
    """Reads requests, however their bytes are split, and hands each to `take` once it has come whole.

    What may not be a request is handed over as a refusal, which is the last.
    """

    __slots__ = (
        "_ahead", "_body_limit", "_chunks", "_fields", "_has_head", "_is_looked_at", "_last", "_parser",
        "_reply", "_sink", "_size", "_take", "_url", "is_coming", "is_over", "owes_continue",
    )  # fmt: skip

    def __init__(
        self, take: Callable[[Request], None], *, reply: Callable[[Request, Answer], None], body_limit: int
    ) -> None:
        self.is_coming = False  # a request, of which a part is there
        self.is_over = False  # nothing more is read
        self.owes_continue = False  # the client waits before it sends the body
        self._take = take
        self._reply = reply
        self._body_limit = body_limit
        self._parser = httptools.HttpRequestParser(self)
        self._last: Request | None = None
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []  # of the head that is coming
        self._sink = self._fields  # or trailers, which nobody reads
        self._chunks: list[bytes] = []
        self._size = 0  # of the body that is coming
        self._ahead = 0  # bytes that have come since there was an end of a head, or a part of a body
        self._has_head = self._is_looked_at = False

    def feed(self, data: bytes | memoryview) -> None:
        """Reads on."""
        size = self._size
        self._ahead += len(data)
        while data and not self.is_over:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._ignore_upgrade() + bytes(data[upgrade.args[0] :])
                continue
            except httptools.HttpParserError:
                if not self.is_over:
                    self.refuse(problem(400, "This is no HTTP request."))
            break
        if not self.is_coming:
            self._ahead = 0
            return
        if self._has_head and not self._is_looked_at:
            self._look()
        if self._size != size:
            self._ahead = 0
        elif self._ahead > _MOST_HEADER_BYTES + _MOST_AHEAD or (self._has_head and len(self._sink) > _MOST_HEADERS):
            self.refuse(_too_many())

    def end(self) -> None:
        """Reads no more, and drops what has come in part."""
        self.is_over, self.is_coming = True, False

    def refuse(self, answer: Answer) -> None:
        """Ends with an answer."""
        self.end()
        self._take(Request(self._reply, answer=answer, is_last=True))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.is_over:
            return
        self.is_coming = True
        self._url, self._chunks, self._size = b"", [], 0
        self._sink = self._fields = []
        self._has_head = self._is_looked_at = self.owes_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > _MOST_URL_BYTES and self.is_coming:
            self.refuse(problem(414, f"The URL is over the limit of {_MOST_URL_BYTES} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._sink.append((name, value))

    def on_headers_complete(self) -> None:
        if not self.is_coming:
            return
        self._has_head = True
        fields, self._sink = self._fields, []
        is_large = self._ahead > _MOST_HEADER_BYTES and sum(map(len, chain(*fields))) > _MOST_HEADER_BYTES
        if is_large or len(fields) > _MOST_HEADERS:
            self.refuse(_too_many())

    def on_body(self, body: bytes) -> None:
        if not self.is_coming:
            return
        self.owes_continue = False  # it has not waited for it
        self._size += len(body)
        if self._size > self._body_limit:
            self.refuse(self._too_large())
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        method = parser.get_method()
        if not self.is_coming or (parser.should_upgrade() and method != b"CONNECT"):
            return
        self.is_coming = False
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        request = self._last = Request(self._reply, method=method, url=self._url, fields=self._fields, body=body)
        if not parser.should_keep_alive() or parser.get_http_version() == "1.0":
            request.is_last = self.is_over = True
        self._take(request)

    def _look(self) -> None:
        """Refuses a body that is too large before it has come, and notes whether the client waits to be told to go
        on."""
        self._is_looked_at = True
        headers = _headers_of(self._fields)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._body_limit:
            self.refuse(self._too_large())
        elif headers.get("expect", "").lower() == "100-continue" and self._parser.get_http_version() != "1.0":
            self.owes_continue = not self._size

    def _ignore_upgrade(self) -> bytes:
        """The head of a request without its wish for another protocol, for which the parser has left its body unread;
        nothing for one that wants a tunnel, which ends the connection."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if not self.is_coming:
            self.is_over = True
            if self._last is not None:
                self._last.is_last = True
            return b""
        self.is_coming = False
        self._parser = httptools.HttpRequestParser(self)
        kept = [f"{name}: {value}\r\n" for name, value in _headers_of(self._fields).items() if name not in _OF_UPGRADES]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self._url, version.encode(), "".join(kept).encode("latin-1"))

    def _too_large(self) -> Answer:
        return problem(413, f"The body is over the limit of {self._body_limit} bytes (TORPOR_HTTP_BODY_LIMIT).")


def _too_many() -> Answer:
    return problem(431, f"Send at most {_MOST_HEADERS} headers and {_MOST_HEADER_BYTES} bytes of them.")


def _headers_of(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in fields:
        known, text = str(name, "latin-1").lower(), str(value, "latin-1")
        headers[known] = f"{headers[known]}, {text}" if known in headers else text
    return headers


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
