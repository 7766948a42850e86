"""The connections to one SQLite file: one that writes, one that reads."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from torpor.adapters.sqlite.errors import is_busy, refusal
from torpor.adapters.sqlite.worker import Worker
from torpor.kernel.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torpor.adapters.sqlite.options import SqliteOptions
    from torpor.ports.clock import Clock

T = TypeVar("T")

MEMORY = ":memory:"

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


def connect(path: str, options: SqliteOptions, *, may_block: bool = False) -> sqlite3.Connection:
    """A connection as the store wants it. One for a thread may wait for locks inside SQLite."""
    connection = None
    try:
        # While it is opened it may wait in any case: another process may be repairing the log, which takes moments.
        connection = sqlite3.connect(
            path,
            timeout=options.busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        connection.execute(f"PRAGMA synchronous={options.synchronous}")
        connection.execute(f"PRAGMA cache_size=-{options.cache_kib}")
        connection.execute(f"PRAGMA wal_autocheckpoint={options.checkpoint_pages}")
        connection.execute(f"PRAGMA foreign_keys={'ON' if options.has_foreign_keys else 'OFF'}")
        connection.execute("PRAGMA temp_store=MEMORY")
        if not may_block:
            connection.execute("PRAGMA busy_timeout=0")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StoreUnavailable(f"{path}: SQLite cannot open it: {error}. Check the file and its folder.") from error
    return connection


class Patience:
    """Waits for other processes' locks without blocking the loop."""

    __slots__ = ("_clock", "_limit")

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock = clock
        self._limit = limit

    async def attempt(self, call: Callable[[], T]) -> T:
        """Makes the call until it is not refused as busy, or the time is up: then the driver's error passes."""
        for pause in self._pauses():
            try:
                return call()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
            await self._clock.sleep(pause)
        return call()

    async def attempt_in(self, worker: Worker, call: Callable[[], object]) -> None:
        """The same, in a thread: for what SQLite refuses at once even on a connection that may wait."""
        for pause in self._pauses():
            try:
                await worker.run(call)
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
            else:
                return
            await self._clock.sleep(pause)
        await worker.run(call)

    def _pauses(self) -> Iterator[float]:
        waited, pause = 0.0, _FIRST_PAUSE
        while waited < self._limit:
            yield pause
            waited += pause
            pause = min(pause * 2, _LONGEST_PAUSE)


class Writer:
    """The process's one writing connection. Whoever writes holds its lock from BEGIN to COMMIT or ROLLBACK."""

    __slots__ = ("_changes", "_connection", "_is_lazy", "_lock", "_options", "_path", "_patience", "_worker", "taken")

    def __init__(self, path: str, options: SqliteOptions, patience: Patience) -> None:
        self._path = path
        self._options = options
        self._patience = patience
        self._lock = asyncio.Lock()
        self._worker: Worker | None = None if path == MEMORY else Worker()
        self._connection: sqlite3.Connection | None = connect(path, options)
        self._changes = 0
        self._is_lazy = False
        self.taken: set[tuple[str, str]] = set()  # the keys of the requests under way

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection. Raises StoreUnavailable once the store has stopped."""
        if self._connection is None:
            raise StoreUnavailable(f"{self._path}: the store has stopped. The unit was rolled back.")
        return self._connection

    async def begin(self, *, is_lazy: bool = False) -> sqlite3.Connection:
        """Takes the lock and begins, waiting for other processes. A lazy transaction does not wait for the disk:
        it is for what may be lost when the machine dies, as the relay's cursor."""
        await self._lock.acquire()
        try:
            if is_lazy:
                self.connection.execute("PRAGMA synchronous=NORMAL")
                self._is_lazy = True
            await self._patience.attempt(self._begin)
            self._changes = self.connection.total_changes
        except sqlite3.Error as error:
            self._end()
            if is_busy(error):
                raise StoreUnavailable(
                    f"{self._path}: another process holds the write lock, and did for {self._options.busy_seconds} s. "
                    "Shorten its transactions, or raise SqliteOptions(busy_seconds=…)."
                ) from error
            raise StoreUnavailable(f"{self._path}: SQLite cannot begin: {error}.") from error
        except BaseException:
            self._end()
            raise
        return self.connection

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    async def commit(self) -> None:
        """Commits and gives the lock back. It waits for the disk in the thread, and only when a row was changed."""
        try:
            connection = self.connection
            if self._worker is None or connection.total_changes == self._changes:
                connection.commit()
            else:
                await self._worker.run(connection.commit)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path}: the commit failed: {error}.") from error
        finally:
            self._end()

    def rollback(self) -> None:
        """Takes everything back, and gives the lock back."""
        self._end()

    def _end(self) -> None:
        connection = self._connection
        try:
            if connection is not None:
                if connection.in_transaction:
                    connection.rollback()
                if self._is_lazy:
                    self._is_lazy = False
                    connection.execute(f"PRAGMA synchronous={self._options.synchronous}")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path}: the rollback failed: {error}.") from error
        finally:
            self._lock.release()

    async def read(self, statement: str, parameters: Sequence[object]) -> list[Any]:
        """One query between transactions: how a database in memory is read, which has only this connection."""
        async with self._lock:
            return self.connection.execute(statement, parameters).fetchall()

    async def close(self) -> None:
        """Takes back what is under way and closes, in the thread: the last to close folds the log into the file."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._worker is None:
            connection.close()
            return
        try:
            await self._worker.run(connection.close)  # after a commit that is under way; closing rolls back
        finally:
            self._worker.stop()


class Reader:
    """Reads what is committed, beside the writer and without waiting for it."""

    __slots__ = ("_connection", "_patience", "_writer")

    def __init__(self, path: str, options: SqliteOptions, patience: Patience, writer: Writer) -> None:
        self._patience = patience
        self._writer = writer
        self._connection = None if path == MEMORY else connect(path, options)
        if self._connection is not None:
            self._connection.execute("PRAGMA query_only=ON")

    async def read(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """The rows of a query. Raises StoreUnavailable."""
        connection = self._connection
        try:
            if connection is None:
                return await self._writer.read(statement, parameters)
            # Busy only while another process repairs the log or folds it into the file.
            return await self._patience.attempt(lambda: connection.execute(statement, parameters).fetchall())
        except sqlite3.Error as error:
            raise refusal(error, statement) from error

    def close(self) -> None:
        """Closes."""
        if self._connection is not None:
            self._connection.close()
