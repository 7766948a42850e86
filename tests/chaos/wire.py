"""What stands between a replica and a server: a gate, which can cut connections on COMMIT, and the line itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from tests.integration.black_hole import swallow

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMIT = b"COMMIT"
_KEEPALIVE = 15.0  # after which a server ends a connection that was forgotten


class Gate:
    """A port of one replica's own. It knows which process a connection to the server belongs to.

    What the line does to a connection is what a network does: it loses none of its bytes and gives them in order, or
    it ends, or nothing comes any more.
    """

    def __init__(self, target: int, owner: Callable[[], str], *, port: int = 0) -> None:
        self.target = target
        self.port = port
        self.cuts = 0
        self.passages: dict[int, list[tuple[float, str]]] = {}  # by the port that the server sees: since when, and who
        self.links: set[_Link] = set()
        self.is_shut = False
        self.is_up_held = False
        self.is_down_held = False
        self.delay = 0.0
        self._owner = owner
        self._orders: list[bool] = []  # cuts to come: is the COMMIT forwarded?
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Listens, on a free port unless it has one."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Link(self).near, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Ends all connections."""
        if self._listener is not None:
            self._listener.close()
        self._end_all()

    # Partitions. One at a time; `heal` ends it.

    @property
    def is_disturbed(self) -> bool:
        """Whether a partition is under way."""
        return self.is_shut or self.is_up_held or self.is_down_held or self.delay > 0

    def shut(self) -> None:
        """Ends the connections, and takes no new ones."""
        self.is_shut = True
        self._end_all()

    def hold(self, *, up: bool, down: bool) -> None:
        """Lets nothing through to the server, to the client, or either way. Nobody is told, not even of an end."""
        self.is_up_held, self.is_down_held = up, down

    def slow(self, seconds: float) -> None:
        """Has everything come so much later."""
        self.delay = seconds

    def forget(self) -> None:
        """Lets nothing more through on the connections there are, and confirms nothing. The client is never told."""
        for link in self.links:
            link.is_forgotten = True
            link.near.swallow()
            asyncio.get_running_loop().call_later(_KEEPALIVE, link.far.abort)

    def heal(self, *, is_reset: bool) -> None:
        """Ends what was done to the line. What was held goes on, unless the connections end."""
        self.is_shut = self.is_up_held = self.is_down_held = False
        self.delay = 0.0
        if is_reset:
            self._end_all()
        for link in list(self.links):
            link.go_on()

    # Cuts on COMMIT.

    def cut_next_commit(self, *, is_forwarded: bool) -> None:
        """The next COMMIT costs its connection: before the server gets it, or once it has answered and none hears."""
        self._orders.append(is_forwarded)

    def order(self, data: bytes) -> bool | None:
        """How a connection that sends this is to be cut; None when it is not."""
        if not self._orders or _COMMIT not in data:
            return None
        self.cuts += 1
        return self._orders.pop(0)

    def passed(self, port: int) -> None:
        """Notes whose connection the server sees under a port."""
        self.passages.setdefault(port, []).append((time.time(), self._owner()))

    def _end_all(self) -> None:
        for link in list(self.links):
            link.end()


class _Link:
    """One connection: the client's end, the server's end, and what is on its way between them."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.is_forgotten = False
        self.is_cut = False
        self.near = _End(self)
        self.far = _End(self)
        self._connecting: asyncio.Task[None] | None = None

    def came(self, end: _End) -> None:
        """One end is connected."""
        if end is self.far:
            self.gate.passed(end.port)
            self.go_on()
        elif self.gate.is_shut:
            self.end()
        else:
            self.gate.links.add(self)
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def take(self, end: _End, data: bytes) -> None:
        """Bytes have come from one end."""
        if end is self.far and self.is_cut:
            self.end()
            return
        if end is self.near:
            order = None if self.is_cut else self.gate.order(data)
            if order is False:
                self.end()
                return
            self.is_cut = self.is_cut or order is True  # from now on nothing comes back
        end.sent.append(data)
        if self.gate.delay and not self.is_held(end):
            asyncio.get_running_loop().call_later(self.gate.delay, self._go_on_from, end, 1)
        else:
            self._go_on_from(end)

    def left(self, end: _End) -> None:
        """One end has closed its connection."""
        end.is_over = True
        self._go_on_from(end)
        if self.near.is_over and self.far.is_over:
            self.gate.links.discard(self)

    def go_on(self) -> None:
        """Passes on what may be."""
        self._go_on_from(self.near)
        self._go_on_from(self.far)

    def end(self) -> None:
        """Cuts both sides."""
        self.gate.links.discard(self)
        self.near.abort()
        self.far.abort()

    def is_held(self, end: _End) -> bool:
        """Whether nothing from one end arrives at the other."""
        return self.is_forgotten or (self.gate.is_up_held if end is self.near else self.gate.is_down_held)

    def _go_on_from(self, end: _End, most: int | None = None) -> None:
        target = self.far if end is self.near else self.near
        if self.is_held(end) or not target.is_connected:
            return
        for _ in range(min(len(end.sent), most or len(end.sent))):
            target.write(end.sent.popleft())
        if end.is_over and not end.sent:
            target.close()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, "127.0.0.1", self.gate.target)
        except OSError:
            self.end()
            return
        if self not in self.gate.links:  # it has gone meanwhile
            self.far.abort()


class _End(asyncio.Protocol):
    """One end of a connection, and what it has sent that is on its way."""

    def __init__(self, link: _Link) -> None:
        self.sent: deque[bytes] = deque()
        self.is_over = False
        self.is_connected = False
        self._link = link
        self._transport: asyncio.Transport | None = None

    @property
    def port(self) -> int:
        """Ours, as the other side sees it."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else ("", 0)
        return int(name[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_connected = True
        self._link.came(self)

    def data_received(self, data: bytes) -> None:
        self._link.take(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.left(self)

    def write(self, data: bytes) -> None:
        """Gives bytes to whom is at this end, if anybody is."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def swallow(self) -> None:
        """Has what comes vanish on the way."""
        if self._transport is not None:
            swallow(self._transport.get_extra_info("socket"))

    def close(self) -> None:
        """Ends the connection in order."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()
