"""A server for answers alone: HTTP/1.1 on asyncio, without a framework, and without a task for each request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from torpor.adapters.http.answer import as_json, problem
from torpor.adapters.http.reading import Reader
from torpor.kernel.errors import NotRunning

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from torpor.adapters.http.answer import Answer, Answerer
    from torpor.adapters.http.reading import Request

KEEP_ALIVE_SECONDS = 65.0  # longer than the minute that load balancers keep an idle connection
RECEIVE_SECONDS = 30.0  # in which a request must have come, and an answer must have been taken
LINGER_SECONDS = 1.0  # in which one who was refused may read why
_SWEEP_SECONDS = 1.0
_LOOK_EVERY = 0.01
_MOST_WAITING = 16  # pipelined requests of one connection
_NEVER = float("inf")
_ASIDE = frozenset({100, 101, 204, 304})  # have no body
_REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    422: "Unprocessable Content", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_log = logging.getLogger("torpor.http")


class LeanServer:
    """Serves an answerer on one address, from `start` to the end of `stop`. Port 0 takes a free one."""

    def __init__(
        self,
        answer: Answerer,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        body_limit: int,
        listener: socket.socket | None = None,
    ) -> None:
        self.body_limit = body_limit
        self.connections: set[_Connection] = set()
        self.is_stopping = False
        self._answer = answer
        self._address = (host, port)
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._listener is None:
            raise NotRunning("The HTTP server has no port before it has started. Await start() first.")
        return int(self._listener.getsockname()[1])

    async def start(self, early: Sequence[socket.socket] = ()) -> None:
        """Listens and serves, those first who have come early. Raises ConfigurationError for an address that cannot
        be had."""
        if self._listener is None:
            from torpor.adapters.http.listening import listening

            self._listener = listening(*self._address)
        loop = asyncio.get_running_loop()

        def connection() -> _Connection:
            return _Connection(self, loop)

        for client in early:
            await loop.connect_accepted_socket(connection, client)
        self._server = await loop.create_server(connection, sock=self._listener, backlog=2048)
        self._sweep()

    async def stop(self, seconds: float = 25.0) -> None:
        """Takes no new connection, waits so many seconds for the requests under way, then ends them."""
        server, self._server = self._server, None
        if server is None:
            return
        self.is_stopping = True
        server.close()
        for connection in (*self.connections,):
            connection.end_when_idle()
        tasks = {connection.task for connection in self.connections}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        await self._taken()
        for connection in (*self.connections,):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _taken(self) -> None:
        """Returns once the clients have what was written, or a moment later."""
        last = asyncio.get_running_loop().time() + LINGER_SECONDS
        while self.connections and asyncio.get_running_loop().time() < last:  # noqa: ASYNC110  # a set tells no event
            await asyncio.sleep(_LOOK_EVERY)

    async def respond(self, request: Request) -> Answer:
        """The answer to a request; what it raises is told in the log, and nowhere else."""
        if request.refusal is not None:
            return request.refusal
        try:
            return await self._answer(request.method, request.path, request.headers, request.body)
        except Exception:  # noqa: BLE001  # one request's failure is not the server's
            _log.exception("%s %s failed", request.method, request.path)
            return as_json({"detail": "Internal Server Error"}, 500)

    def _sweep(self) -> None:
        """Ends the connections that are silent for too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in (*self.connections,):
            if now > connection.due_at:
                connection.expire()
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)


class _Connection(asyncio.Protocol):
    """One client: its requests are answered one after the other, in order."""

    def __init__(self, server: LeanServer, loop: asyncio.AbstractEventLoop) -> None:
        self.due_at = loop.time() + KEEP_ALIVE_SECONDS
        self._server = server
        self._loop = loop
        self._reader = Reader(self._queue, body_limit=server.body_limit, begun=self._begin)
        self._waiting: deque[Request] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_leaving = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of a stream socket
        self._server.connections.add(self)
        self.task = self._loop.create_task(self._answer_all())

    def connection_lost(self, error: Exception | None) -> None:  # asyncio says it
        self._server.connections.discard(self)
        self._reader.end()
        self._writable.set()
        self._leave()

    def eof_received(self) -> bool:
        """The client sends no more, and may still read."""
        if self.task.done():
            return False
        self._reader.end()
        self._leave()
        return True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._reader.owes_continue and self._wake is not None and not self._waiting:
            self._continue()

    # What the server calls.

    def end_when_idle(self) -> None:
        """Closes once what has come, or has begun to come, is answered."""
        if self._reader.coming is None and not self._waiting and self._wake is not None:
            self._reader.end()
            self._leave()

    def expire(self) -> None:
        """Ends a connection that is silent for too long; one that has begun a request is told."""
        is_idle = self._wake is not None and not self._waiting
        if is_idle and self._reader.coming is not None:
            self._reader.refuse(problem(408, "The request has not come in time."))
        elif is_idle or self.task.done() or not self._writable.is_set():
            self._transport.abort()

    def abort(self) -> None:
        """Ends it at once."""
        self.task.cancel()
        self._transport.abort()

    async def _answer_all(self) -> None:
        """Answers what comes until the end of the connection."""
        while (request := await self._next()) is not None:
            self.due_at = _NEVER
            answer = await self._server.respond(request)
            self.due_at = self._loop.time() + RECEIVE_SECONDS
            await self._writable.wait()
            if self._transport.is_closing():
                return
            is_last = request.is_last or self._server.is_stopping
            self._transport.write(_written(answer, is_head=request.method == "HEAD", is_last=is_last))
            if is_last:
                self._part(is_refused=request.refusal is not None)
                return
            self.due_at = self._loop.time() + (KEEP_ALIVE_SECONDS if self._reader.coming is None else RECEIVE_SECONDS)
            if len(self._waiting) < _MOST_WAITING and not self._reader.is_over:
                self._transport.resume_reading()
        self._transport.close()

    async def _next(self) -> Request | None:
        """The next request; None at the end of the connection."""
        while not self._waiting:
            if self._is_leaving or self._transport.is_closing():
                return None
            if self._reader.owes_continue:
                self._continue()
            self._wake = self._loop.create_future()
            await self._wake
            self._wake = None
        return self._waiting.popleft()

    def _begin(self) -> None:
        self.due_at = self._loop.time() + RECEIVE_SECONDS

    def _queue(self, request: Request) -> None:
        self.due_at = self._loop.time() + KEEP_ALIVE_SECONDS
        self._waiting.append(request)
        if len(self._waiting) >= _MOST_WAITING:
            self._transport.pause_reading()
        self._stir()

    def _part(self, *, is_refused: bool) -> None:
        """Ends after the last answer. Who was refused may still be sending: to close on what is unread would reset
        the connection, and the answer would be lost."""
        self._reader.end()
        if not is_refused:
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self.due_at = self._loop.time() + LINGER_SECONDS

    def _continue(self) -> None:
        self._reader.owes_continue = False
        self._transport.write(_CONTINUE)

    def _leave(self) -> None:
        self._is_leaving = True
        self._stir()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _written(answer: Answer, *, is_head: bool, is_last: bool) -> bytes:
    """An answer as it goes over the wire."""
    status = answer.status
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\ndate: {_date(int(time.time()))}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in answer.headers]
    has_body = status not in _ASIDE
    if has_body:
        lines.append(f"content-length: {len(answer.body)}\r\n")
    lines.append("connection: close\r\n\r\n" if is_last else "\r\n")
    head = "".join(lines).encode("latin-1", "replace")
    return head + answer.body if has_body and not is_head else head


_dates: dict[int, str] = {}  # of this second alone


def _date(second: int) -> str:
    text = _dates.get(second)
    if text is None:
        _dates.clear()
        text = _dates[second] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    return text
