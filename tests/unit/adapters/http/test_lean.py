"""The lean server, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.adapters.http import lean
from torpor.adapters.http.answer import Answer
from torpor.adapters.http.lean import LeanServer
from torpor.kernel.errors import ConfigurationError, NotRunning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from torpor.adapters.http.reading import Request

PATIENCE = 10.0
LIMIT = 1_000
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Echo:
    """Answers with what it was asked; waits at its gate first for `/slow`, and breaks for `/broken`."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.answered: list[str] = []
        self.headers: Mapping[str, str] = {}

    async def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.headers = headers
        self.entered.set()
        if path == "/slow":
            await self.open.wait()
        if path == "/broken":
            raise RuntimeError("on purpose")
        if path == "/none":
            return Answer(204, b"not to be sent")
        if path == "/large":
            return Answer(200, b"x" * 2_000_000, "text/plain")
        self.answered.append(path)
        return Answer(200, f"{method} {path} {len(body)}".encode(), "text/plain")


@asynccontextmanager
async def served(echo: Echo | None = None) -> AsyncIterator[LeanServer]:
    """A server on a free port."""
    server = LeanServer(echo or Echo(), "127.0.0.1", 0, body_limit=LIMIT)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0.1)


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)


@asynccontextmanager
async def connected(server: LeanServer) -> AsyncIterator[Client]:
    """A raw connection to a server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def asked(data: bytes, *, is_ended: bool = True, echo: Echo | None = None) -> bytes:
    """All that a fresh connection answers to some bytes; unless the server closes by itself, the client has ended."""
    async with served(echo) as server, connected(server) as client:
        await client.send(data)
        if is_ended:
            client.writer.write_eof()
        return await client.rest()


def statuses(answers: bytes) -> list[int]:
    """The statuses of answers on one connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answers)]


async def until(server: LeanServer, count: int) -> None:
    """Waits until a server has so many connections."""
    async with asyncio.timeout(PATIENCE):
        while len(server.connections) != count:  # noqa: ASYNC110  # a set tells no event
            await asyncio.sleep(0)


async def until_busy(server: LeanServer, count: int) -> None:
    """Waits until a request is on its way on so many connections."""
    async with asyncio.timeout(PATIENCE):
        while sum(connection.is_busy for connection in server.connections) != count:  # noqa: ASYNC110  # a set tells no event
            await asyncio.sleep(0)


async def until_answered(echo: Echo, paths: Sequence[str]) -> None:
    """Waits until these were answered, and no others."""
    async with asyncio.timeout(PATIENCE):
        while len(echo.answered) < len(paths):  # noqa: ASYNC110  # a list tells no event
            await asyncio.sleep(0)
    assert echo.answered == paths


def take_at_once(request: Request) -> bool:
    """Takes `/now`, and `/mistaken` by mistake."""
    if request.url == b"/mistaken":
        raise RuntimeError("by mistake")
    if request.url != b"/now":
        return False
    request.reply(request, Answer(200, b"taken", "text/plain"))
    return True


async def test_an_ordinary_client_is_answered() -> None:
    """Method, path and body arrive; a connection is used again; a date is sent."""
    async with served() as server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert (await client.get("/one?a=b")).text == "GET /one 0"
        answer = await client.post("/t%C3%B6%20x", content=b"abc")
        assert answer.text == "POST /tö x 3"
        assert "date" in answer.headers
        assert len(server.connections) == 1


async def test_a_chunked_body_is_put_together_and_its_trailers_are_no_headers() -> None:
    """What follows the body cannot speak for the request."""
    echo = Echo()
    data = (
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nce-id: forged\r\n\r\n"
    )
    answers = await asked(data, echo=echo)
    assert answers.endswith(b"POST /x 5")
    assert "ce-id" not in echo.headers


async def test_a_header_that_comes_twice_is_joined() -> None:
    """As the HTTP standard allows for lists."""
    echo = Echo()
    await asked(b"GET / HTTP/1.1\r\nhost: x\r\nA: 1\r\na: 2\r\n\r\n", echo=echo)
    assert echo.headers["a"] == "1, 2"


async def test_pipelined_requests_are_answered_in_order() -> None:
    """However many come at once, and even when the first takes long: some go on beside it, the others wait."""
    echo = Echo()
    async with served(echo) as server, connected(server) as client:
        paths = [f"/{number}" for number in range(100)]
        await client.send(b"".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for path in ("/slow", *paths)))
        await asyncio.wait_for(echo.entered.wait(), PATIENCE)
        await until_answered(echo, paths[:15])
        echo.open.set()
        client.writer.write_eof()
        answers = await client.rest()
        assert re.findall(rb"GET (\S+) 0", answers) == [path.encode() for path in ("/slow", *paths)]


async def test_answers_that_are_there_together_are_written_together() -> None:
    """One write for the requests of one read."""
    server = LeanServer(Echo(), body_limit=LIMIT, take=take_at_once)
    wire = Wire()
    connection = lean._Connection(server)
    connection.connection_made(wire)
    feed(connection, b"GET /now HTTP/1.1\r\nhost: x\r\n\r\n" * 40)
    assert statuses(wire.written) == [200] * 40
    assert wire.writes == 1


async def test_an_answer_that_is_there_first_waits_for_those_before_it() -> None:
    """What is answered at once does not overtake what takes long, and both are written together."""
    echo = Echo()
    server = LeanServer(echo, body_limit=LIMIT, take=take_at_once)
    wire = Wire()
    connection = lean._Connection(server)
    connection.connection_made(wire)
    feed(connection, b"".join(b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n" % path for path in (b"slow", b"now", b"now")))
    await asyncio.wait_for(echo.entered.wait(), PATIENCE)
    assert wire.written == b""
    echo.open.set()
    async with asyncio.timeout(PATIENCE):
        while connection.is_busy:  # noqa: ASYNC110  # a count tells no event
            await asyncio.sleep(0)
    assert re.findall(rb"GET /slow 0|taken", wire.written) == [b"GET /slow 0", b"taken", b"taken"]
    assert wire.writes == 1


async def test_a_failure_of_who_takes_requests_is_one_requests(caplog: pytest.LogCaptureFixture) -> None:
    """It is answered with a 500 and told in the log; the connection goes on."""
    server = LeanServer(Echo(), body_limit=LIMIT, take=take_at_once)
    wire = Wire()
    connection = lean._Connection(server)
    connection.connection_made(wire)
    feed(connection, b"GET /mistaken HTTP/1.1\r\nhost: x\r\n\r\nGET /now HTTP/1.1\r\nhost: x\r\n\r\n")
    assert statuses(wire.written) == [500, 200]
    assert "by mistake" in caplog.text


async def test_a_client_of_http_1_0_is_answered_once() -> None:
    """Its connection ends with the answer, whatever it wishes."""
    data = b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
    answers = await asked(data, is_ended=False)
    assert statuses(answers) == [200]
    assert b"connection: close\r\n" in answers


async def test_connection_close_is_heeded() -> None:
    """The server closes after the answer, and what was sent after it is not answered."""
    answers = await asked(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" + GET, is_ended=False)
    assert statuses(answers) == [200]


async def test_a_client_that_ends_its_side_still_gets_its_answer() -> None:
    """Half of a connection is enough to answer on."""
    echo = Echo()
    async with served(echo) as server, connected(server) as client:
        await client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        client.writer.write_eof()
        await asyncio.wait_for(echo.entered.wait(), PATIENCE)
        echo.open.set()
        assert statuses(await client.rest()) == [200]
        await until(server, 0)


async def test_half_a_request_at_the_end_is_dropped() -> None:
    """Nothing is answered, nothing is handled, and the connection ends."""
    echo = Echo()
    assert await asked(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabc", echo=echo) == b""
    assert not echo.entered.is_set()


async def test_who_expects_100_is_told_to_go_on() -> None:
    """The body is asked for, and then answered."""
    async with served() as server, connected(server) as client:
        await client.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"POST /x 3")


async def test_100_waits_for_the_answers_before_it() -> None:
    """It is not mixed up with the answer to an earlier request."""
    echo = Echo()
    async with served(echo) as server, connected(server) as client:
        await client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
        await asyncio.wait_for(echo.entered.wait(), PATIENCE)
        echo.open.set()
        assert b" 200 " in await client.head()
        assert await asyncio.wait_for(client.reader.readexactly(len("GET /slow 0")), PATIENCE) == b"GET /slow 0"
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_who_expects_100_for_too_much_is_refused_instead() -> None:
    """The body need not be sent at all."""
    head = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\nexpect: 100-continue\r\n\r\n"
    assert statuses(await asked(head, is_ended=False)) == [413]


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1])
async def test_the_body_limit_holds_with_a_content_length(length: int) -> None:
    """One byte over it is refused, with a body that is still being sent, and the connection ends."""
    head = f"POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n".encode()
    assert statuses(await asked(head + b"x" * length, is_ended=False)) == [200 if length == LIMIT else 413]


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1])
async def test_the_body_limit_holds_without_a_content_length(length: int) -> None:
    """Chunks are counted as they come."""
    head = b"POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"".join(b"1\r\nx\r\n" for _ in range(length)) + b"0\r\n\r\n"
    assert statuses(await asked(head + body, is_ended=False)) == [200 if length == LIMIT else 413]


async def test_who_is_refused_in_the_middle_of_a_large_body_reads_why() -> None:
    """The answer is not lost in a reset."""
    body = b"x" * 3_000_000
    async with served() as server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert (await client.post("/x", content=body)).status_code == 413


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"a%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 700_000, 431),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_or_too_much_of_one_is_refused(data: bytes, status: int) -> None:
    """The status tells what is wrong, and the connection ends."""
    answers = await asked(data, is_ended=False)
    assert statuses(answers) == [status]
    assert b"connection: close\r\n" in answers


async def test_good_requests_before_a_bad_one_are_answered() -> None:
    """In order, and then the connection ends."""
    assert statuses(await asked(GET + GET + b"nonsense\r\n\r\n" + GET, is_ended=False)) == [200, 200, 400]


async def test_another_protocol_is_not_spoken() -> None:
    """The request is answered as it is, body included, and so is what follows it."""
    head = (
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    )
    answers = await asked((head + b"http2-settings: AAMAAABkAAQAAP__\r\n\r\nabc") * 3 + GET)
    assert statuses(answers) == [200] * 4
    assert answers.count(b"POST /x 3") == 3


async def test_a_tunnel_is_not_made() -> None:
    """CONNECT is answered as any request, and ends the connection."""
    assert statuses(await asked(b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n" + GET, is_ended=False)) == [200]


async def test_an_answer_without_a_body_has_none() -> None:
    """Neither 204 nor HEAD; and HEAD tells the length."""
    answers = await asked(b"GET /none HTTP/1.1\r\nhost: x\r\n\r\nHEAD /abc HTTP/1.1\r\nhost: x\r\n\r\n")
    assert statuses(answers) == [204, 200]
    assert b"not to be sent" not in answers
    assert b"content-length: 11\r\n" in answers
    assert answers.endswith(b"\r\n\r\n")


async def test_a_failure_of_the_answerer_is_told_in_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a 500 without details, and the connection goes on."""
    answers = await asked(b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
    assert statuses(answers) == [500, 200]
    assert b"on purpose" not in answers
    assert "on purpose" in caplog.text


async def test_a_client_that_goes_does_not_end_what_it_has_begun() -> None:
    """The request is handled to its end, and nothing is written."""
    echo = Echo()
    async with served(echo) as server:
        async with connected(server) as client:
            await client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(echo.entered.wait(), PATIENCE)
            client.writer.transport.abort()
        echo.open.set()
        await until(server, 0)
        assert echo.answered == ["/slow"]


async def test_a_stop_answers_what_has_begun_and_closes_the_rest() -> None:
    """The idle are closed at once, those under way are answered with `connection: close`, and no new one is taken."""
    echo = Echo()
    server = LeanServer(echo, "127.0.0.1", 0, body_limit=LIMIT)
    await server.start()
    async with connected(server) as idle, connected(server) as busy, connected(server) as half:
        await idle.send(GET)
        await idle.head()
        await busy.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await half.send(b"POST /half HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na")
        await asyncio.wait_for(echo.entered.wait(), PATIENCE)
        await until_busy(server, 2)
        stopping = asyncio.create_task(server.stop(PATIENCE))
        await idle.rest()
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", server.port)
        await half.send(b"bc")
        answer = await half.rest()
        assert answer.endswith(b"POST /half 3")
        assert b"connection: close\r\n" in answer
        assert not stopping.done()
        echo.open.set()
        assert b"connection: close\r\n" in await busy.rest()
        await asyncio.wait_for(stopping, PATIENCE)


async def test_a_stop_does_not_wait_for_ever() -> None:
    """A request that outlasts its time is cut off."""
    echo = Echo()
    async with served(echo) as server, connected(server) as client:
        await client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(echo.entered.wait(), PATIENCE)
        await server.stop(0.01)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.head()


async def test_a_large_answer_is_taken_before_a_stop_ends() -> None:
    """What was written is not cut off."""
    async with served() as server, connected(server) as client:
        await client.send(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        await client.head()
        stopping = asyncio.create_task(server.stop(PATIENCE))
        assert len(await client.rest()) == 2_000_000
        await asyncio.wait_for(stopping, PATIENCE)


async def test_who_sends_slowly_is_told_and_who_is_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not come to its end is answered 408; a connection that is idle for long is closed."""
    monkeypatch.setattr(lean, "RECEIVE_SECONDS", 0.0)
    monkeypatch.setattr(lean, "KEEP_ALIVE_SECONDS", 0.0)
    monkeypatch.setattr(lean, "_SWEEP_SECONDS", 0.01)
    async with served() as server, connected(server) as slow, connected(server) as silent:
        await slow.send(b"GET / HTTP/1.1\r\nho")
        assert statuses(await slow.rest()) in ([408], [])  # it may be swept before its first byte has come
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await silent.head()


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is not taken does not hold a connection for ever."""
    monkeypatch.setattr(lean, "RECEIVE_SECONDS", 0.0)
    monkeypatch.setattr(lean, "_SWEEP_SECONDS", 0.01)
    async with served() as server, connected(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket
        await client.send(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" * 8)
        await until(server, 1)
        await until(server, 0)


async def test_those_who_came_before_the_server_are_served() -> None:
    """A socket that was accepted elsewhere, its request unread, is answered as any other."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    theirs.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(theirs, b"GET /early HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    server = LeanServer(Echo(), "127.0.0.1", 0, body_limit=LIMIT)
    await server.start([ours])
    try:
        async with asyncio.timeout(PATIENCE):
            assert b"GET /early 0" in await loop.sock_recv(theirs, 65_536)
    finally:
        theirs.close()
        await server.stop(0.1)


async def test_a_port_is_told_once_there_is_one() -> None:
    """Before the start it raises; a port that is taken is a configuration error."""
    server = LeanServer(Echo(), "127.0.0.1", 0, body_limit=LIMIT)
    with pytest.raises(NotRunning):
        _ = server.port
    async with served() as other:
        with pytest.raises(ConfigurationError, match="in use"):
            await LeanServer(Echo(), "127.0.0.1", other.port, body_limit=LIMIT).start()


REQUESTS = (
    b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123456789",
    b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n",
    b"HEAD /d%20e?q=1 HTTP/1.1\r\nhost: x\r\nx-long: " + b"y" * 300 + b"\r\n\r\n",
)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        self.writes += 1

    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close


def feed(connection: lean._Connection, data: bytes) -> None:
    """Hands bytes to a connection, as asyncio does."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


async def fed(pieces: Sequence[bytes]) -> bytes:
    """What a connection writes when bytes come in pieces, and then no more."""
    server = LeanServer(Echo(), body_limit=LIMIT)
    connection = lean._Connection(server)
    wire = Wire()
    connection.connection_made(wire)
    for piece in pieces:
        feed(connection, piece)
        await asyncio.sleep(0)
    connection.eof_received()
    async with asyncio.timeout(PATIENCE):
        while connection.is_busy and not wire.is_closed:  # noqa: ASYNC110  # a count tells no event
            await asyncio.sleep(0)
    connection.connection_lost(None)
    return wire.written


def without_dates(answers: bytes) -> bytes:
    """Answers to compare."""
    return b"\r\n".join(line for line in answers.split(b"\r\n") if not line.startswith(b"date:"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=5), st.data())
def test_bytes_may_be_split_anywhere(requests: list[bytes], data: st.DataObject) -> None:
    """The answers are those to the bytes in one piece."""
    whole = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = asyncio.run(fed([whole]))
    assert statuses(expected) == [200] * len(requests)
    assert without_dates(asyncio.run(fed(pieces))) == without_dates(expected)


def test_random_and_broken_bytes_never_break_a_connection() -> None:
    """Whatever comes, what is answered is an answer, none of them a 500, and the connection's task ends well."""
    chance = random.Random(5)

    async def run() -> None:
        for _ in range(1_500):
            whole = bytearray(b"".join(chance.choices(REQUESTS, k=chance.randint(1, 3))))
            for _ in range(chance.randint(0, 4)):
                at = chance.randrange(len(whole))
                whole[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 4))
            answers = await fed([bytes(whole[at : at + 50]) for at in range(0, len(whole), 50)])
            assert all(status in {200, 400, 413, 414, 431} for status in statuses(answers)), bytes(whole)

    asyncio.run(run())
