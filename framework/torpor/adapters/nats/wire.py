"""The server's protocol, read and written by us on the client's connection.

nats-py spends a regular expression, a coroutine and an object on each message. Here what arrives for a subscription of
ours goes raw to its sink, a buffer at a time, and all the rest to the client as its own parser would hand it on.
"""
# ruff: noqa: SLF001  # private names of nats-py, each asked for in a test

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client

    from torpor.adapters.nats.frames import Raw

    # Both are called by the client's reader: they neither wait nor raise.
    Sink = Callable[[Sequence[Raw]], None]
    Confirmed = Callable[[Sequence[tuple[bytes, bytes]]], None]  # with the last two words of each subject, numbers

_END = b"\r\n"
_LONGEST_LINE = 1024 * 1024  # a server's INFO is the longest, with all the servers of its cluster
_WORDS = {b"MSG": 4, b"HMSG": 5}  # of a message without a reply subject


class Wire:
    """The parser of one client, in the place of nats-py's."""

    def __init__(self, client: Client, rest: bytes = b"") -> None:
        self._client: Any = client  # its private names are used, and asked for in a test
        self._sinks: dict[bytes, Sink] = {}
        self._receipts: dict[bytes, _Receipts] = {}
        self._parts = [rest] if rest else []  # of what is not whole yet
        self._size = len(rest)
        self._needed = 0
        self._resets = 0

    async def subscribe(
        self, subject: str, sink: Sink, *, queue: str = "", confirmed: Confirmed | None = None
    ) -> Listening:
        """Has the messages of a subject handed to a sink; those that say that a message is stored to `confirmed`, if
        there is one."""
        client = self._client
        client._sid += 1
        sid = str(client._sid).encode()
        self._sinks[sid] = sink
        if confirmed is not None:
            self._receipts[sid] = _Receipts(sid, confirmed)
        await self.send([b"SUB %b %b %b\r\n" % (subject.encode(), queue.encode(), sid)])
        return Listening(self, sid)

    async def send(self, frames: Sequence[bytes]) -> None:
        """Sends frames in one write. Raises nats-py's errors: nothing is kept for a connection that is lost."""
        client = self._client
        if not client.is_connected or client.is_draining_pubs:
            from nats.errors import ConnectionClosedError

            raise ConnectionClosedError
        if frames:
            data = b"".join(frames)
            client.stats["out_msgs"] += len(frames)
            client.stats["out_bytes"] += len(data)
            await client._send_command(data)
            await client._flush_pending()

    def forget(self, sid: bytes) -> None:
        """Hands nothing more to a subscription's sink."""
        self._sinks.pop(sid, None)
        self._receipts.pop(sid, None)

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return str(self._client.new_inbox())

    async def round_trip(self) -> None:
        """Returns once the server has answered all that was sent before."""
        await self._client.flush()  # whose ping goes ahead of what the client's flusher has not written yet:
        await self._client.flush()  # by now it has

    def reset(self) -> None:
        """Forgets what is not whole: the client has lost its connection."""
        self._parts.clear()
        self._size = self._needed = 0
        self._resets += 1

    async def parse(self, data: bytes = b"") -> None:
        """Reads what has arrived. Raises nats-py's ProtocolError."""
        if self._parts:
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        resets, at = self._resets, 0
        while at < len(data):
            at = self._hand_out(data, at)
            if at < len(data):
                end = await self._process(data, at)
                if self._resets != resets:
                    return
                if end == at:
                    self._parts.append(data[at:])
                    self._size = len(data) - at
                    return
                at = end

    def _hand_out(self, data: bytes, at: int) -> int:
        """Hands whole messages of ours to their sinks; returns the place of the first other thing."""
        sinks, receipts, size, find = self._sinks, self._receipts, len(data), data.find
        taken: list[tuple[Sink, list[Raw]]] = []
        last: Sink | None = None
        found: list[Raw] = []
        try:
            while (start := find(_END, at) + 2) > 1:
                words = data[at:start].split()
                sid = words[2]
                if sid in receipts and (end := receipts[sid].take(data, at)) > at:
                    at = end
                    continue
                sink = sinks.get(sid)
                more = len(words) - _WORDS[words[0]]
                split = start + int(words[-2]) if words[0] == b"HMSG" else start
                end = start + int(words[-1])
                if sink is None or not 0 <= more <= 1 or not start <= split <= end:
                    break
                if data[end : end + 2] != _END:
                    break
                if sink is not last:
                    last, found = sink, []
                    taken.append((sink, found))
                found.append((words[1], words[3] if more else b"", data[start:split], data[split:end]))
                at = end + 2
                if at == size:
                    break
        except (ValueError, LookupError):
            pass  # `_process` tells
        for sink, found in taken:
            self._client.stats["in_msgs"] += len(found)
            self._client.stats["in_bytes"] += sum([len(raw[3]) for raw in found])
            sink(found)
        return at

    async def _process(self, data: bytes, at: int) -> int:
        """Hands anything to the client; returns where the next begins, or the same place if this is not whole."""
        start = data.find(_END, at) + 2
        if start < 2:
            if len(data) - at > _LONGEST_LINE:
                raise _violation("a line without an end")
            self._needed = len(data) - at + 1
            return at
        line = data[at : start - 2]
        op = (line.split(None, 1) or [b""])[0]
        if op in _WORDS:
            return await self._process_message(data, at, start)
        if op == b"PING":
            await self._client._process_ping()
        elif op == b"PONG":
            await self._client._process_pong()
        elif op == b"INFO":
            await self._client._process_info(_read_json(line[4:]))
        elif op == b"-ERR":
            text = line[4:].strip()
            if len(text) < 3 or text[:1] != b"'" or text[-1:] != b"'":
                raise _violation(line)
            await self._client._process_err(text.decode("utf-8", "replace").lower())
        elif op != b"+OK":
            raise _violation(line)
        return start

    async def _process_message(self, data: bytes, at: int, start: int) -> int:
        """A message that is no sink's, or not whole, or malformed."""
        words = data[at:start].split()
        sizes = [int(word) if word.isdigit() else -1 for word in (words[-2:] if words[0] == b"HMSG" else words[-1:])]
        more = len(words) - _WORDS[words[0]]
        if not 0 <= more <= 1 or not words[2].isdigit() or sizes != sorted(sizes) or sizes[0] < 0:
            raise _violation(data[at:start])
        split, end = start + (sizes[0] if len(sizes) > 1 else 0), start + sizes[-1]
        if end + 2 > len(data):
            self._needed = end + 2 - at
            return at
        if data[end : end + 2] != _END:
            raise _violation(data[at:start])
        reply = words[3] if more else b""
        await self._client._process_msg(int(words[2]), words[1], reply, data[split:end], data[start:split] or None)
        return end + 2


class _Receipts:
    """What most answers to publishing are: a line that begins with the stream. Many come in a row, and are read so."""

    __slots__ = ("_confirmed", "_each", "_run")

    def __init__(self, sid: bytes, confirmed: Confirmed) -> None:
        self._run = re.compile(rb'(?:MSG [^ \r\n]+ %b \d+\r\n\{"stream":[^\r\n]*+\r\n)++' % sid)
        self._each = re.compile(rb"\.(\d+)\.(\d+) %b \d+\r\n" % sid)
        self._confirmed = confirmed

    def take(self, data: bytes, at: int) -> int:
        """Hands on those that follow each other from a place; returns the end of the last."""
        run = self._run.match(data, at)
        if run is None:
            return at
        self._confirmed(self._each.findall(data, at, run.end()))
        return run.end()


class Listening:
    """A subscription whose messages a sink is handed."""

    __slots__ = ("_sid", "_wire")

    def __init__(self, wire: Wire, sid: bytes) -> None:
        self._wire = wire
        self._sid = sid

    async def end(self) -> None:
        """Hands out nothing more, and tells the server."""
        self._wire.forget(self._sid)
        await self._wire.send([b"UNSUB %b\r\n" % self._sid])

    async def drain(self) -> None:
        """Tells the server, and hands out what was on its way. Not to be cancelled: the client's reader would stumble
        over the cancelled ping."""
        try:
            await self._wire.send([b"UNSUB %b\r\n" % self._sid])
            await self._wire.round_trip()
        finally:
            self._wire.forget(self._sid)


def install(client: Client) -> Wire:
    """Puts a wire in the place of the parser of a client that has just connected."""
    former = client._ps
    wire = Wire(client, bytes(former.buf))
    former.reset()
    client._ps = wire  # type: ignore[assignment]
    return wire


def wire_of(client: Client) -> Wire:
    """The wire of a client that has one."""
    wire: Any = client._ps
    return cast("Wire", wire)


def _read_json(text: bytes) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise _violation(text) from error
    return told


def _violation(told: bytes | str) -> Exception:
    from nats.errors import ProtocolError

    return ProtocolError(f"nats: not the protocol of NATS: {told[:80]!r}")
