"""Connections to one PostgreSQL database: plain ones of asyncpg, kept in a small pool.

Not asyncpg's own pool: its `release` asks the server to reset the connection, an exchange that each unit would pay.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import asyncpg

from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal, told
from torpor.kernel.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.adapters.postgres.address import Address
    from torpor.adapters.postgres.options import PostgresOptions

_CONNECT_SECONDS = 10.0
_STATEMENTS = 500  # that stay prepared on a connection
_OLDEST = 13
_FAREWELL = 1.0
_PROBES = 3


async def connect(
    address: Address,
    options: PostgresOptions,
    *,
    settings: Mapping[str, str] | None = None,
    is_patient: bool = False,
) -> asyncpg.Connection:
    """A connection as the store wants it. A patient one waits for its statements however long they take.

    Raises StoreUnavailable."""
    wanted = {"application_name": "torpor"}
    if not options.is_pooled:  # a pooler refuses or forgets the others: they are set in each transaction then
        wanted |= settings or options.settings
    try:
        connection = await asyncpg.connect(
            address.dsn,
            timeout=_CONNECT_SECONDS,
            command_timeout=None if is_patient else options.command_seconds,
            statement_cache_size=0 if options.is_pooled else _STATEMENTS,
            max_cached_statement_lifetime=0,
            server_settings=wanted,
        )
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError([f"{address.place}: the address of PostgreSQL is not right: {error}."]) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise StoreUnavailable(
            f"{address.place}: PostgreSQL cannot be reached: {told(error)}. Check that it runs, and the address, user, "
            "password and database in its setting."
        ) from error
    _watch(connection, options.silence_seconds)
    version = connection.get_server_version()
    if version.major < _OLDEST:
        await end(connection)
        raise ConfigurationError([f"{address.place}: PostgreSQL {version.major} is too old. Use {_OLDEST} or later."])
    return connection


def _watch(connection: asyncpg.Connection, seconds: float) -> None:
    """Has the system end the connection once the network is silent for so long, whether anything is being sent or not.
    Otherwise one that a firewall has forgotten, or whose server's machine is gone, is waited for."""
    line = connection._transport.get_extra_info("socket")  # noqa: SLF001  # asked for in a test
    if line is None or line.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {
        "TCP_KEEPIDLE": max(1, int(seconds / 2)),
        "TCP_KEEPINTVL": max(1, int(seconds / 2 / _PROBES)),
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": int(seconds * 1000),
    }
    for name, value in wanted.items():
        option = getattr(socket, name, None)  # systems differ
        if option is not None:
            line.setsockopt(socket.IPPROTO_TCP, option, value)


async def end(connection: asyncpg.Connection) -> None:
    """Takes leave of the server; without its answer if it gives none."""
    try:
        await connection.close(timeout=_FAREWELL)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


class Pool:
    """A few connections, opened when they are needed and again when they were lost. The last used is used next. What
    one was lost by may have hit all: when one is found lost, those that wait are given up, and not tried in turn."""

    __slots__ = ("_address", "_idle", "_is_closed", "_lent", "_options", "_prepare", "_room", "_settings", "_size")

    def __init__(
        self,
        address: Address,
        options: PostgresOptions,
        *,
        size: int,
        settings: Mapping[str, str] | None = None,
        prepare: str | None = None,
    ) -> None:
        self._address = address
        self._options = options
        self._settings = settings
        self._prepare = prepare
        self._size = size
        self._room = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection] = []
        self._lent: set[asyncpg.Connection] = set()
        self._is_closed = False

    @property
    def options(self) -> PostgresOptions:
        """How the connections are made."""
        return self._options

    async def take(self) -> asyncpg.Connection:
        """A connection that nobody else uses. Raises StoreUnavailable."""
        self._check()
        await self._wait()
        connection = None
        try:
            if self._idle:
                connection = self._idle.pop()
                if connection.is_closed():
                    self._give_up_idle()
            if connection is None or connection.is_closed():
                connection = await self._connect()
            try:
                self._check()  # it may have been closed meanwhile
            except StoreUnavailable:
                connection.terminate()
                raise
        except BaseException:
            self._room.release()
            raise
        self._lent.add(connection)
        return connection

    def give_back(self, connection: asyncpg.Connection) -> None:
        """Returns a connection. One that is in a transaction still, or was lost, is given up."""
        self._lent.discard(connection)
        if connection.is_closed():
            self._give_up_idle()
        elif self._is_closed or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)
        self._room.release()

    async def close(self) -> None:
        """Ends all connections; what is under way on them is rolled back. Repeatable."""
        self._is_closed = True
        for connection in self._lent:
            connection.terminate()
        idle, self._idle = self._idle, []
        for connection in idle:
            await end(connection)

    def _give_up_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    async def _connect(self) -> asyncpg.Connection:
        connection = await connect(self._address, self._options, settings=self._settings)
        if self._prepare is not None:
            try:
                await connection.execute(self._prepare)
            except BaseException as error:
                connection.terminate()
                if isinstance(error, DRIVER_ERRORS):
                    raise refusal(error, "torpor_inbox") from error
                raise
        return connection

    async def _wait(self) -> None:
        if not self._room.locked():
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout(self._options.wait_seconds):
                await self._room.acquire()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self._address.place}: all {self._size} connections have been busy for {self._options.wait_seconds} "
                "s. Shorten the transactions, or raise PostgresOptions(connections=…)."
            ) from error

    def _check(self) -> None:
        if self._is_closed:
            raise StoreUnavailable(f"{self._address.place}: the store has stopped. The unit was rolled back.")
