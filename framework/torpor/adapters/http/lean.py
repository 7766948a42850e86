"""A server for answers alone: HTTP/1.1 on asyncio, without a framework, and without a task for each connection."""

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
    from collections.abc import Callable, Sequence

    from torpor.adapters.http.answer import Answer, Answerer
    from torpor.adapters.http.reading import Request

    Take = Callable[[Request], bool]  # replies to a request by itself, now or later; False leaves it to the answerer

KEEP_ALIVE_SECONDS = 65.0  # longer than the minute that load balancers keep an idle connection
RECEIVE_SECONDS = 30.0  # in which a request must have come, and an answer must have been taken
LINGER_SECONDS = 1.0  # in which one who was refused may read why
_SWEEP_SECONDS = 1.0
_LOOK_EVERY = 0.01
_READ_BYTES = 65_536  # at once
_MOST_AT_ONCE = 16  # pipelined requests of one connection; more of them wait
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
        take: Take | None = None,
    ) -> None:
        self.body_limit = body_limit
        self.connections: set[_Connection] = set()
        self.is_stopping = False
        self.buffer = memoryview(bytearray(_READ_BYTES))  # of whoever reads at this moment
        self.now = 0.0  # by the loop's clock, as of the last sweep
        self.date = b""  # the end of an answer's head, as of the last sweep
        self._answer = answer
        self._take = take
        self._tasks: set[asyncio.Task[None]] = set()
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
        self._sweep()

        def connection() -> _Connection:
            return _Connection(self)

        for client in early:
            await loop.connect_accepted_socket(connection, client)
        self._server = await loop.create_server(connection, sock=self._listener, backlog=2048)

    async def stop(self, seconds: float = 25.0) -> None:
        """Takes no new connection, waits so many seconds for the requests under way, then ends them."""
        server, self._server = self._server, None
        if server is None:
            return
        self.is_stopping = True
        server.close()
        for connection in (*self.connections,):
            connection.end_when_idle()
        last = asyncio.get_running_loop().time() + seconds
        while any(one.is_busy for one in self.connections) and asyncio.get_running_loop().time() < last:  # noqa: ASYNC110  # a set tells no event
            await asyncio.sleep(_LOOK_EVERY)
        for task in self._tasks:
            task.cancel()
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

    def begin(self, request: Request) -> None:
        """Has a request replied to: at once, by who has taken it, or by a task."""
        try:
            if self._take is not None and self._take(request):
                return
        except Exception as error:  # noqa: BLE001  # one request's failure is not the server's
            request.reply(request, _failed(request, error))
            return
        task = asyncio.get_running_loop().create_task(self._respond(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, request: Request) -> None:
        try:
            answer = await self._answer(str(request.method, "ascii"), request.path, request.headers, request.body)
        except Exception as error:  # noqa: BLE001  # one request's failure is not the server's
            answer = _failed(request, error)
        request.reply(request, answer)

    def _sweep(self) -> None:
        """Ends the connections that are silent for too long, and sets the clocks that requests look at."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self.date = time.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime()).encode()
        for connection in (*self.connections,):
            if self.now > connection.due_at:
                connection.expire()
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)


class _Connection(asyncio.BufferedProtocol):
    """One client: its requests are handled side by side, and answered in the order in which they came."""

    __slots__ = (
        "_asked", "_is_flushing", "_is_gathering", "_is_leaving", "_is_over", "_is_writable", "_reader", "_server",
        "_transport", "_waiting", "due_at",
    )  # fmt: skip

    def __init__(self, server: LeanServer) -> None:
        self.due_at = server.now + KEEP_ALIVE_SECONDS
        self._server = server
        self._reader = Reader(self._ask, reply=self._reply, body_limit=server.body_limit)
        self._asked: deque[Request] = deque()  # not answered, and begun
        self._waiting: deque[Request] = deque()  # behind them
        self._is_gathering = self._is_flushing = self._is_leaving = self._is_over = False
        self._is_writable = True

    @property
    def is_busy(self) -> bool:
        """Whether a request has begun to come and is not answered."""
        return bool(self._asked) or self._reader.is_coming

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of a stream socket
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # asyncio says it
        self._server.connections.discard(self)
        self._reader.end()
        self._waiting.clear()
        self._is_over = True

    def eof_received(self) -> bool:
        """The client sends no more, and may still read."""
        self._reader.end()
        self._is_leaving = True
        return bool(self._asked)  # with none asyncio closes

    def pause_writing(self) -> None:
        self._is_writable = False
        self.due_at = self._server.now + RECEIVE_SECONDS

    def resume_writing(self) -> None:
        self._is_writable = True
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        reader = self._reader
        was_coming = reader.is_coming
        self._is_gathering = True
        reader.feed(self._server.buffer[:nbytes])
        self._is_gathering = False
        asked = self._asked
        if asked:
            if asked[0].answer is not None:
                self._flush()
        elif reader.is_coming and not was_coming:
            self.due_at = self._server.now + RECEIVE_SECONDS
        if reader.owes_continue and not asked:
            self._continue()

    # What the server calls.

    def end_when_idle(self) -> None:
        """Closes once what has come, or has begun to come, is answered."""
        if not self.is_busy and not self._is_over:
            self._close()

    def expire(self) -> None:
        """Ends a connection that is silent for too long; one that has begun a request is told."""
        if not self._asked and self._reader.is_coming:
            self._reader.refuse(problem(408, "The request has not come in time."))
        else:
            self.abort()

    def abort(self) -> None:
        """Ends it at once."""
        self._asked.clear()
        self._transport.abort()

    # What the reader calls, and who answers.

    def _ask(self, request: Request) -> None:
        if len(self._asked) >= _MOST_AT_ONCE:
            self._waiting.append(request)
            self._transport.pause_reading()
            return
        self.due_at = _NEVER
        self._asked.append(request)
        if request.answer is not None:
            self._reply(request, request.answer)
        else:
            self._server.begin(request)

    def _reply(self, request: Request, answer: Answer) -> None:
        """Takes an answer, which is written once those before it are, together with others that come now."""
        request.answer = answer
        if self._is_gathering or self._is_flushing or not self._asked or self._asked[0].answer is None:
            return
        if len(self._asked) == 1:
            self._flush()
        else:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Writes the answers that are there, in the order of their requests, and begins those that wait."""
        asked, server = self._asked, self._server
        self._is_flushing = False
        if self._is_over:
            return
        if not self._is_writable:
            self.due_at = server.now + RECEIVE_SECONDS
            return
        written: list[bytes] = []
        while asked and (answer := asked[0].answer) is not None:
            request = asked.popleft()
            is_last = request.is_last or (server.is_stopping and not (asked or self._waiting))
            written.append(_written(answer, server.date, is_head=request.method == b"HEAD", is_last=is_last))
            if is_last:
                self._part(b"".join(written), is_refused=not request.method)
                return
            if self._waiting:
                self._begin_waiting()
        if not asked:
            self.due_at = server.now + (RECEIVE_SECONDS if self._reader.is_coming else KEEP_ALIVE_SECONDS)
        if written:
            self._transport.write(b"".join(written))
        if not asked and self._is_leaving:
            self._close()
        elif not asked and self._reader.owes_continue:
            self._continue()

    def _begin_waiting(self) -> None:
        """Begins as many of the requests that wait as there is room for."""
        self._is_gathering = True
        while self._waiting and len(self._asked) < _MOST_AT_ONCE:
            self._ask(self._waiting.popleft())
        self._is_gathering = False
        if not (self._waiting or self._reader.is_over):
            self._transport.resume_reading()

    def _part(self, last: bytes, *, is_refused: bool) -> None:
        """Ends with the last answer. Who was refused may still be sending: to close on what is unread would reset the
        connection, and the answer would be lost."""
        self._asked.clear()
        self._waiting.clear()
        self.due_at = self._server.now + RECEIVE_SECONDS
        self._transport.write(last)
        if not is_refused:
            self._close()
            return
        self._is_over = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self.due_at = self._server.now + LINGER_SECONDS

    def _close(self) -> None:
        self._reader.end()
        self._is_over = True
        self._transport.close()

    def _continue(self) -> None:
        self._reader.owes_continue = False
        self._transport.write(_CONTINUE)


def _failed(request: Request, error: Exception) -> Answer:
    """What is said when answering has failed; why is told in the log, and nowhere else."""
    _log.error("%s %s failed", str(request.method, "ascii"), request.path, exc_info=error)
    return as_json({"detail": "Internal Server Error"}, 500)


def _written(answer: Answer, date: bytes, *, is_head: bool, is_last: bool) -> bytes:
    """An answer as it goes over the wire. Its own lines are made once: many requests may have the same."""
    head = answer.head
    if head is None:
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in answer.headers]
        if answer.status not in _ASIDE:
            lines.append(f"content-length: {len(answer.body)}\r\n")
        head = answer.head = "".join(lines).encode("latin-1", "replace")
    end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
    return head + date + end + (b"" if is_head or answer.status in _ASIDE else answer.body)
