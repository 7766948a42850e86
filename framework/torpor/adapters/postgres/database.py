"""One PostgreSQL database: its connections while it is open, and how to ask it outside a unit."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import asyncpg

from torpor.adapters.postgres import migrations
from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal
from torpor.adapters.postgres.options import local
from torpor.adapters.postgres.pool import Pool, connect, end
from torpor.adapters.postgres.queries import pending, queries
from torpor.kernel.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from torpor.adapters.postgres.address import Address
    from torpor.adapters.postgres.options import PostgresOptions
    from torpor.ports.clock import Clock

_BESIDE = 2  # connections for what is asked outside units: one for the relay, one so that it need not wait


class Database:
    """A database on a server, and Torpor's schema in it."""

    __slots__ = ("_beside", "_units", "address", "clock", "options", "queries", "shards")

    def __init__(self, address: Address, clock: Clock, options: PostgresOptions) -> None:
        self.address = address
        self.clock = clock
        self.options = options
        self.queries = queries(options.schema)
        self.shards = 0
        self._units: Pool | None = None
        self._beside: Pool | None = None

    @property
    def units(self) -> Pool:
        """The connections of units. Raises StoreUnavailable unless the database is open."""
        if self._units is None:
            raise self._closed()
        return self._units

    def pending(self, part: int | None) -> str:
        """The query for what is to be published, in one part of the log or in all of it."""
        return pending(self.options.schema, self.shards, part)

    def literally(self, name: str) -> str:
        """The query of that name for literals, by what the connections of units have prepared if they may."""
        return self.queries[f"{name}_pooled" if self.options.is_pooled else name]

    async def open(self) -> None:
        """Opens what `migrate` has made. Raises StoreUnavailable or SchemaMismatch."""
        if self._units is not None:
            return
        connection = await connect(self.address, self.options)
        try:
            async with connection.transaction():
                await migrations.check(connection, self.options.schema, place=self.address.place)
                self.shards = await connection.fetchval(self.queries["count_shards"])
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_migration") from error
        finally:
            await end(connection)
        self._units = Pool(
            self.address,
            self.options,
            size=self.options.connections,
            prepare=None if self.options.is_pooled else self.queries["prepare"],
        )
        self._beside = Pool(self.address, self.options, size=_BESIDE, settings=self.options.reading)

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Applies what is missing, on a connection of its own."""
        connection = await connect(self.address, self.options, is_patient=True)
        try:
            script = migrations.Script(own, self.options.schema)
            return await migrations.apply(connection, script, self.options, place=self.address.place)
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_migration") from error
        finally:
            await end(connection)

    async def fetch(self, statement: str, *parameters: object) -> list[Any]:
        """The rows of a statement, in a transaction of its own."""
        rows: list[Any] = await self._ask(lambda connection: connection.fetch(statement, *parameters), statement)
        return rows

    async def execute(self, statement: str, *parameters: object) -> int:
        """Runs a statement in a transaction of its own; returns the number of rows it changed."""
        return changed(await self._ask(lambda connection: connection.execute(statement, *parameters), statement))

    async def _ask(self, question: Callable[[asyncpg.Connection], Awaitable[Any]], statement: str) -> Any:
        pool = self._beside
        if pool is None:
            raise self._closed()
        connection = await pool.take()
        try:
            if not self.options.is_pooled:
                return await question(connection)
            # A pooler may give each exchange another connection, but for those of a transaction.
            async with connection.transaction():
                await connection.execute(local(self.options.reading))
                return await question(connection)
        except DRIVER_ERRORS as error:
            if isinstance(error, TimeoutError):
                connection.terminate()  # a server that does not answer is not asked again
            raise refusal(error, statement) from error
        finally:
            pool.give_back(connection)

    @asynccontextmanager
    async def transaction(self, place: str, *, on_units: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """A transaction of several statements, on a unit's connection if the relay must not wait for it. A lock that
        cannot be had in the time that the transaction sets passes as asyncpg's error."""
        pool = self.units if on_units else self._beside
        if pool is None:
            raise self._closed()
        connection = await pool.take()
        try:
            async with connection.transaction():
                try:
                    if self.options.is_pooled:
                        await connection.execute(local(self.options.reading))
                    yield connection
                except TimeoutError:
                    connection.terminate()  # a server that does not answer is not asked again
                    raise
        except asyncpg.LockNotAvailableError:
            raise
        except DRIVER_ERRORS as error:
            raise refusal(error, place) from error
        finally:
            pool.give_back(connection)

    @asynccontextmanager
    async def apart(self, place: str) -> AsyncIterator[asyncpg.Connection]:
        """A transaction on a connection of its own, which waits however long: for what may read a whole table."""
        connection = await connect(self.address, self.options, settings=self.options.reading, is_patient=True)
        try:
            async with connection.transaction():
                if self.options.is_pooled:
                    await connection.execute(local(self.options.reading))
                yield connection
        except DRIVER_ERRORS as error:
            raise refusal(error, place) from error
        finally:
            await end(connection)

    async def remove(self, statement: str, before: float, limit: int) -> int:
        """Deletes old rows, some at a time, on a unit's connection: the relay must not wait for it."""
        total, removed = 0, limit
        while removed >= limit:
            connection = await self.units.take()
            try:
                async with connection.transaction():
                    removed = changed(await connection.execute(statement, before, limit))
            except DRIVER_ERRORS as error:
                raise refusal(error, statement) from error
            finally:
                self.units.give_back(connection)
            total += removed
        return total

    async def close(self) -> None:
        """Closes. Repeatable."""
        units, beside = self._units, self._beside
        self._units = self._beside = None
        for pool in (units, beside):
            if pool is not None:
                await pool.close()

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.address.place}: the store is not open. Await its start() first.")


@lru_cache(maxsize=256)
def changed(status: str) -> int:
    """The number of rows that a command tells to have changed."""
    verb, _, rest = status.partition(" ")
    return int(rest.rpartition(" ")[2]) if verb in {"INSERT", "UPDATE", "DELETE", "MERGE"} else 0
