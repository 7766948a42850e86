"""What stands between a replica and PostgreSQL: a gate, which cuts connections on COMMIT when asked."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMIT = b"COMMIT"


class Gate:
    """A port of one replica's own. It knows which process a connection to the server belongs to."""

    def __init__(self, target: int, owner: Callable[[], str]) -> None:
        self.target = target
        self.port = 0
        self.cuts = 0
        self.passages: dict[int, list[tuple[float, str]]] = {}  # by the port that the server sees: since when, and who
        self.connections: set[_Client] = set()
        self._owner = owner
        self._orders: list[bool] = []  # cuts to come: is the COMMIT forwarded?
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Listens on a free port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Ends all connections."""
        if self._listener is not None:
            self._listener.close()
        for client in list(self.connections):
            client.end()

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


class _Client(asyncio.Protocol):
    """The replica's side of a connection."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._early = bytearray()
        self._far: asyncio.Transport | None = None
        self.near: asyncio.Transport | None = None
        self.is_cut = False
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.near = cast("asyncio.Transport", transport)
        self._gate.connections.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.is_cut:
            return
        order = self._gate.order(data)
        if order is False:
            self.end()
            return
        self.is_cut = order is True  # from now on nothing comes back
        if self._far is None:
            self._early += data
        else:
            self._far.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()

    def end(self) -> None:
        """Cuts both sides."""
        self._gate.connections.discard(self)
        for side in (self.near, self._far):
            if side is not None:
                side.abort()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            far, _ = await loop.create_connection(lambda: _Server(self), "127.0.0.1", self._gate.target)
        except OSError:
            self.end()
            return
        self._far = far
        if self not in self._gate.connections:  # it has gone meanwhile
            far.abort()
            return
        self._gate.passed(far.get_extra_info("sockname")[1])
        far.write(bytes(self._early))


class _Server(asyncio.Protocol):
    """The server's side of a connection."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        if self._client.is_cut or self._client.near is None:
            self._client.end()
        else:
            self._client.near.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.end()
