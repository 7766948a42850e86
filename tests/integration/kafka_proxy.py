"""A TCP proxy before a Kafka, which can silence one client, as if its process were frozen, or cut all connections."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEAD = struct.Struct(">ihhih")  # size, API, version, correlation, length of the client's name


class KafkaProxy:
    """Listens on a port that the server tells its clients, and passes everything on. It knows clients by name."""

    def __init__(self, *, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._silent: dict[str, asyncio.Event] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        for moving in self._silent.values():
            moving.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def silenced(self, name: str) -> AsyncIterator[None]:
        """Lets nothing of a client through; afterwards what was held."""
        moving = self._moving(name)
        moving.clear()
        try:
            yield
        finally:
            moving.set()

    def cut(self) -> None:
        """Ends all connections at once."""
        for writer in self._writers:
            writer.transport.abort()

    def _moving(self, name: str) -> asyncio.Event:
        if name not in self._silent:
            self._silent[name] = asyncio.Event()
            self._silent[name].set()
        return self._silent[name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readexactly(_HEAD.size)
            name = await reader.readexactly(max(0, _HEAD.unpack(head)[-1]))
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, EOFError):
            writer.transport.abort()
            return
        back.write(head + name)
        moving = self._moving(name.decode())
        self._writers |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(_pump(source, target, moving)))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, moving: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            await moving.wait()
            target.write(data)
            await target.drain()
    target.transport.abort()
