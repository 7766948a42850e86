"""One SQLite database: its connections while it is open, and how to write outside a unit."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from torpor.adapters.sqlite.connection import MEMORY, Patience, Reader, Writer, connect
from torpor.adapters.sqlite.errors import refusal
from torpor.adapters.sqlite.queries import MIGRATIONS, OURS, queries
from torpor.adapters.sqlite.worker import Worker
from torpor.kernel.errors import SchemaMismatch, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.adapters.sqlite.options import SqliteOptions
    from torpor.ports.clock import Clock

T = TypeVar("T")


class Database:
    """A database file, or one in memory, which lives from its first use until it is closed."""

    __slots__ = ("_options", "_patience", "_reader", "_writer", "clock", "path")

    def __init__(self, path: str, clock: Clock, options: SqliteOptions) -> None:
        self.path = path
        self.clock = clock
        self._options = options
        self._patience = Patience(clock, options.busy_seconds)
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    @property
    def is_memory(self) -> bool:
        """Whether it is gone once it is closed."""
        return self.path == MEMORY

    @property
    def writer(self) -> Writer:
        """The writing connection. Raises StoreUnavailable unless the database is open."""
        if self._writer is None or self._reader is None:
            raise StoreUnavailable(f"{self.path}: the store is not open. Await its start() first.")
        return self._writer

    @property
    def reader(self) -> Reader:
        """The reading connection. Raises StoreUnavailable unless the database is open."""
        if self._reader is None:
            raise StoreUnavailable(f"{self.path}: the store is not open. Await its start() first.")
        return self._reader

    async def open(self) -> None:
        """Opens what `migrate` has made. Raises StoreUnavailable or SchemaMismatch."""
        if self._reader is not None:
            return
        if not self.is_memory and not self._exists():
            raise SchemaMismatch(f"{self.path} does not exist. Run `torpor migrate` before the service starts.")
        writer, self._writer = self._writer or Writer(self.path, self._options, self._patience), None
        try:
            await self._patience.attempt(lambda: _use_log(writer.connection))
            await self._patience.attempt(lambda: _check(writer.connection, self.path))
            reader = Reader(self.path, self._options, self._patience, writer)
        except sqlite3.Error as error:
            await writer.close()
            raise self._unavailable(error) from error
        except BaseException:
            await writer.close()
            raise
        self._writer, self._reader = writer, reader

    def _exists(self) -> bool:
        return os.path.exists(self.path)  # noqa: PTH110  # without pathlib, which a service that wakes may not need

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Applies what is missing: on a file in a thread and on a connection of its own."""
        from torpor.adapters.sqlite import migrations

        try:
            if self.is_memory:
                if self._writer is None:
                    self._writer = Writer(self.path, self._options, self._patience)
                return migrations.apply(self._writer.connection, own, path=self.path, at=self.clock.time())
            return await self._migrate_file(own)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    async def _migrate_file(self, own: Mapping[str, str]) -> Sequence[str]:
        from torpor.adapters.sqlite import migrations

        worker = Worker()
        try:
            connection = await worker.run(self._make)
            try:
                await self._patience.attempt_in(worker, lambda: _use_log(connection))
                at = self.clock.time()
                applied: Sequence[str] = await worker.run(
                    lambda: migrations.apply(connection, own, path=self.path, at=at)
                )
            finally:
                await worker.run(connection.close)
        finally:
            worker.stop()
        return applied

    def _make(self) -> sqlite3.Connection:
        from pathlib import Path

        try:
            Path(self.path).absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: its folder cannot be made: {error.strerror}.") from error
        return connect(self.path, self._options, may_block=True)

    async def write(self, work: Callable[[sqlite3.Connection], T], *, is_lazy: bool = False) -> T:
        """Does work in a transaction of its own. A lazy one does not wait for the disk."""
        writer = self.writer
        connection = await writer.begin(is_lazy=is_lazy)
        try:
            result = work(connection)
        except sqlite3.Error as error:
            writer.rollback()
            raise refusal(error, "a statement of Torpor's own") from error
        except BaseException:
            writer.rollback()
            raise
        await writer.commit()
        return result

    async def write_rows(self, query: str, rows: Sequence[tuple[object, ...]], *, is_lazy: bool = False) -> int:
        """Runs a named query for each row, in a transaction of its own; returns the number of rows it changed."""
        if not rows:
            return 0
        return await self.write(
            lambda connection: connection.executemany(queries()[query], rows).rowcount, is_lazy=is_lazy
        )

    async def scan(self, statement: str, parameters: Sequence[object]) -> list[tuple[str, ...]]:
        """The rows of a query that may read a whole table: in a thread, on a connection of its own."""
        if self.is_memory:
            return await self.reader.read(statement, parameters)
        worker = Worker()
        try:
            rows: list[tuple[str, ...]] = await worker.run(lambda: self._scan(statement, parameters))
        finally:
            worker.stop()
        return rows

    def _scan(self, statement: str, parameters: Sequence[object]) -> list[tuple[str, ...]]:
        connection = connect(self.path, self._options, may_block=True)
        try:
            return connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise refusal(error, statement) from error
        finally:
            connection.close()

    async def close(self) -> None:
        """Closes. Repeatable."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        if reader is not None:
            reader.close()
        if writer is not None:
            await writer.close()

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        return StoreUnavailable(f"{self.path}: SQLite cannot use it: {error}. Check the file and its folder.")


def _use_log(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, so that readers and the writer do not wait for each other."""
    connection.execute("PRAGMA journal_mode=WAL")


def _check(connection: sqlite3.Connection, path: str) -> None:
    """Raises SchemaMismatch unless the tables are those that this version expects. When they are, nothing is imported
    that could tell what is wrong with them."""
    try:
        names = {name for name, _ in connection.execute(queries()["applied"])}
    except sqlite3.OperationalError:
        names = set()
    if {name for name in names if name.startswith(OURS)} != {OURS + name for name in MIGRATIONS}:
        from torpor.adapters.sqlite import migrations

        migrations.check(connection, path)
