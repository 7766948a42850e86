"""What may stand between the store and its server: a proxy that cuts connections, and PgBouncer."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.integration.black_hole import swallow
from tests.integration.ports import free_port
from tests.integration.postgres_server import PASSWORD, USER

if TYPE_CHECKING:
    from tests.integration.postgres_server import PostgresServer


class Proxy:
    """Passes bytes on, until it is to cut the connection on which it sees some, or to forget all that there are."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.exchanges = 0  # that clients have begun
        self.connections = 0  # that clients have made
        self._near: set[asyncio.StreamWriter] = set()
        self._trigger: bytes | None = None
        self._left = 0  # exchanges until the cut
        self._is_forwarded = False
        self._is_cutting = False
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listens on a free port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._writers:
            writer.close()

    def cut_on(self, trigger: bytes, *, is_forwarded: bool) -> None:
        """The next time a client sends this, its connection is cut: before the server gets it, or before it answers."""
        self._trigger = trigger
        self._is_forwarded = is_forwarded

    def cut_at(self, exchange: int, *, is_forwarded: bool) -> None:
        """Cuts the connection of the so-manieth exchange from now on, the first being 1."""
        self.cut_on(b"", is_forwarded=is_forwarded)
        self._left = exchange

    def forget(self) -> None:
        """Lets every packet of the connections that there are vanish, as a firewall does that has forgotten them: none
        is confirmed, and nobody is told."""
        for writer in self._near:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            swallow(writer.get_extra_info("socket"))

    @property
    def has_cut(self) -> bool:
        """Whether what was to be cut has been."""
        return self._trigger is None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, far_writer}
        self._near.add(writer)
        self.connections += 1
        with suppress(OSError):
            await asyncio.gather(self._upward(reader, far_writer), self._downward(far_reader, writer))
        self._near.discard(writer)
        for end in (writer, far_writer):
            self._writers.discard(end)
            end.close()

    async def _upward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.exchanges += 1
            self._left -= 1
            if self._trigger is not None and self._trigger in data and self._left <= 0:
                self._trigger = None
                if self._is_forwarded:
                    self._is_cutting = True
                    writer.write(data)
                    await writer.drain()
                    return  # the answer ends the other direction
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _downward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._is_cutting:
                self._is_cutting = False
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


class Bouncer:
    """PgBouncer in transaction mode, with two connections to the server."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server = server
        self._directory = server.directory / "bouncer"
        self._database = database
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> None:
        """Starts it."""
        self._directory.mkdir()
        users = self._directory / "users.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n{self._database} = host=127.0.0.1 port={self._server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = 2\n"
        )
        drop: dict[str, Any] = {}
        if os.getuid() == 0:
            for path in (self._directory, users, settings):
                shutil.chown(path, "nobody")
            drop = {"user": "nobody", "extra_groups": []}
        self._process = subprocess.Popen(
            [shutil.which("pgbouncer") or "pgbouncer", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **drop,
        )

    def stop(self) -> None:
        """Stops it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
