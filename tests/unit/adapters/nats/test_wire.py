"""The wire reads what the server sends as nats-py's own parser does, and hands what is ours to sinks."""

from __future__ import annotations

import ast
from inspect import getmembers, getsource, iscoroutinefunction, ismethod, signature
from itertools import pairwise
from textwrap import dedent
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import nats.aio.client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ConnectionClosedError, ProtocolError
from nats.protocol.parser import Parser

from torpor.adapters.nats.wire import Wire, install

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = (1, 22)
FOREIGN = 7

words = st.text("abc.$_*0123456789", min_size=1, max_size=12).map(str.encode)
payloads = st.one_of(st.binary(max_size=80), st.sampled_from([b"\r\n", b"PING\r\n", b"MSG a 1 3\r\nabc\r\n"]))
heads = st.binary(max_size=30).map(lambda text: b"NATS/1.0\r\n" + text + b"\r\n\r\n")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message, with a reply subject and a head or without."""
    subject, payload = draw(words), draw(payloads)
    reply = draw(st.one_of(st.just(b""), words.map(lambda word: word + b" ")))
    head = draw(st.one_of(st.none(), heads))
    sid = draw(st.sampled_from([*OURS, FOREIGN]))
    if head is None:
        return b"MSG %b %d %b%d\r\n%b\r\n" % (subject, sid, reply, len(payload), payload)
    sizes = b"%d %d" % (len(head), len(head) + len(payload))
    return b"HMSG %b %d %b%b\r\n%b%b\r\n" % (subject, sid, reply, sizes, head, payload)


others = st.sampled_from(
    [
        b"PING\r\n", b"PONG \r\n", b"+OK\r\n", b'INFO {"max_payload": 1024}\r\n', b"-ERR 'Slow Consumer'\r\n",
        b"MSG  tab\t1   2\r\nab\r\n",
    ]
)  # fmt: skip


class Client:
    """Notes what it is handed, as a client of nats-py and as the sinks."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.sent: list[bytes] = []
        self.stats = {"in_msgs": 0, "in_bytes": 0, "out_msgs": 0, "out_bytes": 0}
        self.is_connected = True
        self.is_draining_pubs = False
        self._sid = 0
        self._ps: Any = Parser(self)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, payload: bytes, head: bytes | None) -> None:
        self.heard.append((sid, subject, reply, payload, head))

    async def _process_err(self, text: str) -> None:
        self.heard.append(("err", text))
        if "stale" in text:
            self._ps.reset()

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.heard.append(("info", info))

    async def _process_ping(self) -> None:
        self.heard.append(("ping",))

    async def _process_pong(self) -> None:
        self.heard.append(("pong",))

    async def _send_command(self, data: bytes) -> None:
        self.sent.append(data)

    async def _flush_pending(self) -> None:
        """Is called after each write."""

    async def wire(self) -> Wire:
        """A wire, with sinks for what is ours."""
        wire = install(self)  # type: ignore[arg-type]
        for sid in OURS:
            self._sid = sid - 1
            await wire.subscribe("a.b", self.sink(sid))
        return wire

    def sink(self, sid: int) -> Any:
        """Notes as `_process_msg` does."""

        def take(raws: Sequence[tuple[bytes, bytes, bytes, bytes]]) -> None:
            self.heard += [(sid, subject, reply, payload, head or None) for subject, reply, head, payload in raws]

        return take


async def heard(stream: bytes, cuts: Sequence[int] = (), *, is_ours: bool) -> list[tuple[Any, ...]]:
    """What a client hears of a stream that comes in pieces."""
    client = Client()
    parser: Any = await client.wire() if is_ours else Parser(client)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        await parser.parse(stream[start:end])
    return client.heard


@given(st.lists(st.one_of(messages(), others), max_size=8).map(b"".join), st.lists(st.integers(0, 10_000), max_size=8))
async def test_a_stream_in_any_pieces_is_read_as_by_the_client(stream: bytes, cuts: list[int]) -> None:
    """Whatever the server sends and wherever it is cut, all is handed on in the order in which nats-py would."""
    assert await heard(stream, cuts, is_ours=True) == await heard(stream, is_ours=False)


async def test_a_stream_may_be_cut_at_every_byte() -> None:
    """A stream that comes byte by byte is read as a whole one."""
    stream = (
        b"PING\r\nMSG a 1 0\r\n\r\nHMSG b.c 22 r.1 12 16\r\nNATS/1.0\r\n\r\n\r\n\r\n\r\n"
        b"INFO {}\r\nMSG c 7 r 2\r\n\r\n\r\n+OK\r\n-ERR 'x'\r\nPONG\r\n"
    )

    assert await heard(stream, range(len(stream)), is_ours=True) == await heard(stream, is_ours=False)


@pytest.mark.parametrize(
    "told",
    [
        b"\r\n", b"HELLO\r\n", b"PINGPONG\r\n", b"MSG\r\n\r\n", b"MSG a 1\r\n", b"MSG a b 1\r\n", b"MSG a 1 x\r\n",
        b"HMSG a 1 2\r\n", b"MSG a 1 b c 5\r\n", b"msg a 1 0\r\n\r\n", b"-ERR x\r\n", b"MSG a 1 -1\r\n\r\n",
        b"HMSG a 1 x 2\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_protocol_is_refused(told: bytes) -> None:
    """What nats-py calls a violation of the protocol is one here, also behind a message that was fine."""
    for is_ours in (True, False):
        with pytest.raises(ProtocolError):
            await heard(b"MSG a 1 2\r\nab\r\n" + told, is_ours=is_ours)


@pytest.mark.parametrize(
    "told", [b"MSG a 1 1\r\nabc\r\n", b"HMSG a 1 5 2\r\nabcde\r\n", b"INFO {\r\n", b"-ERR\r\n", b"x" * 1_100_000]
)
async def test_what_would_confuse_the_client_is_refused_too(told: bytes) -> None:
    """A message that is longer than it says, a head longer than its message, an INFO or error without any text, and a
    line without an end are violations."""
    with pytest.raises(ProtocolError):
        await heard(told, is_ours=True)


async def test_a_large_payload_is_put_together_once() -> None:
    """The pieces of a large message are kept apart until the last has come."""
    client = Client()
    wire = await client.wire()
    payload = bytes(range(256)) * 32_000
    stream = b"MSG a 1 %d\r\n%b\r\n" % (len(payload), payload)
    for at in range(0, len(stream), 10_000):
        assert len(wire._parts) == at // 10_000
        await wire.parse(stream[at : at + 10_000])

    assert client.heard == [(1, b"a", b"", payload, None)]


async def test_what_follows_the_end_of_a_connection_is_dropped() -> None:
    """When an error has the client give the connection up, the rest of what had come is forgotten."""
    client = Client()
    wire = await client.wire()
    await wire.parse(b"-ERR 'Stale Connection'\r\nPING\r\nMSG a 1 2\r\nab\r\nMSG a 1 2\r\n")
    await wire.parse(b"PONG\r\n")

    assert client.heard == [("err", "'stale connection'"), ("pong",)]


async def test_what_the_former_parser_had_not_read_is_read() -> None:
    """A wire that is put into a client reads what had come for the parser before it."""
    client = Client()
    await client._ps.parse(b"PING\r\nPO")
    wire = await client.wire()
    await wire.parse(b"NG\r\n")

    assert client.heard == [("ping",), ("pong",)]


receipts = st.builds(
    lambda name, index, size: b"MSG _INBOX.x.%d.%d 30 %d\r\n%b\r\n" % (name, index, len(size), size),
    st.integers(0, 12),
    st.integers(0, 2000),
    st.sampled_from([b'{"stream":"s","seq":7}', b'{"stream":"s","seq":8,"duplicate":true}', b'{"error":{}}', b""]),
)


@given(
    st.lists(st.one_of(receipts, receipts, messages(), others), max_size=12), st.lists(st.integers(0, 9999), max_size=8)
)
async def test_receipts_are_read_in_runs(told: list[bytes], cuts: list[int]) -> None:
    """Those that say that a message is stored are told apart from the other answers, and none is lost or doubled,
    whatever comes between them and wherever the stream is cut."""
    client, stored = Client(), list[tuple[bytes, bytes]]()
    wire = await client.wire()
    client._sid = 29
    await wire.subscribe("_INBOX.x.*.*", client.sink(30), confirmed=stored.extend)
    stream = b"".join(told)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        await wire.parse(stream[start:end])

    every = [one for one in await heard(stream, is_ours=False) if one[0] == 30]
    good = [one for one in every if one[3].startswith(b'{"stream":')]
    assert [b"_INBOX.x.%b.%b" % place for place in stored] == [one[1] for one in good]
    assert [one for one in client.heard if one[0] == 30] == [one for one in every if one not in good]
    assert [one for one in client.heard if one[0] != 30] == [
        one for one in await heard(stream, is_ours=True) if one[0] != 30
    ]


async def test_a_subscription_that_has_ended_hears_nothing() -> None:
    """After its end, a subscription's messages go to the client, which knows of none; the server is told."""
    client = Client()
    wire = install(client)  # type: ignore[arg-type]
    listening = await wire.subscribe("a.>", client.sink(-1), queue="group")
    await wire.parse(b"MSG a.b 1 1\r\nx\r\n")
    await listening.end()
    await wire.parse(b"MSG a.b 1 1\r\ny\r\n")

    assert client.heard == [(-1, b"a.b", b"", b"x", None), (1, b"a.b", b"", b"y", None)]
    assert client.sent == [b"SUB a.> group 1\r\n", b"UNSUB 1\r\n"]


async def test_a_sink_that_fails_is_told_to_the_reader() -> None:
    """What a sink raises is not taken for a violation of the protocol, and not kept silent."""
    wire = install(SimpleNamespace(**vars(Client())))  # type: ignore[arg-type]
    wire._client._send_command = wire._client._flush_pending = Client()._flush_pending

    def fail(_: object) -> None:
        raise ValueError("broken")

    wire._sinks[b"1"] = fail
    with pytest.raises(ValueError, match="broken"):
        await wire.parse(b"MSG a 1 1\r\nx\r\n")


def test_each_private_name_of_the_client_is_there() -> None:
    """What the wire uses of nats-py, and nats-py of its parser, is as it was when this was written."""
    client: Any = nats.aio.client.Client()
    for name in ("err", "info", "msg", "ping", "pong"):
        assert iscoroutinefunction(getattr(client, f"_process_{name}"))
    assert [*signature(client._process_msg).parameters] == ["sid", "subject", "reply", "data", "headers"]
    assert [*signature(client._process_err).parameters] == ["err_msg"]
    assert iscoroutinefunction(client._send_command)
    assert iscoroutinefunction(client._flush_pending)
    assert client._sid == 0
    assert set(Client().stats) < set(client.stats)
    assert isinstance(client._ps, Parser)
    assert isinstance(client._ps.buf, bytearray)
    used = {name for _, function in getmembers(client, ismethod) for name in attributes_of(function, "_ps")}
    assert used == {"parse", "reset"}


def attributes_of(function: Any, holder: str) -> set[str]:
    """What a function uses of something that its object holds."""
    tree = ast.parse(dedent(getsource(function)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == holder
    }


async def test_nothing_is_kept_for_a_connection_that_is_lost() -> None:
    """Sending raises while the client is not connected or about to close, and writes nothing."""
    client = Client()
    wire = install(client)  # type: ignore[arg-type]
    for state in ({"is_connected": False}, {"is_connected": True, "is_draining_pubs": True}):
        vars(client).update(state)
        with pytest.raises(ConnectionClosedError):
            await wire.send([b"PUB a 0\r\n\r\n"])

    assert client.sent == []


async def test_what_goes_through_is_counted() -> None:
    """The client's own counters tell of our messages, too."""
    client = Client()
    wire = await client.wire()
    before = client.stats["out_msgs"]
    await wire.send([b"PUB a 1\r\nx\r\n", b"PUB a 1\r\ny\r\n"])
    await wire.parse(b"MSG a 1 3\r\nabc\r\nMSG a 22 2\r\nab\r\n")

    assert (client.stats["in_msgs"], client.stats["in_bytes"]) == (2, 5)
    assert client.stats["out_msgs"] - before == 2
    assert client.sent[-1] == b"PUB a 1\r\nx\r\nPUB a 1\r\ny\r\n"
