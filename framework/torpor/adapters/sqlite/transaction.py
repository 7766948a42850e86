"""A unit's transaction on the writing connection.

Why `BEGIN IMMEDIATE` at a unit's first statement, whatever it is: a deferred transaction that has read cannot become a
writing one once another process has written (SQLITE_BUSY_SNAPSHOT), and a handler cannot be asked to start again half
way. A unit that only reads pays 5 µs for its BEGIN and COMMIT, and does not wait for the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import StatementFailed, StoreUnavailable

if TYPE_CHECKING:
    import sqlite3

    from torpor.adapters.sqlite.connection import Writer


class Transaction:
    """A unit's hold on the writer: begun by its first statement, ended once."""

    __slots__ = ("_has_begun", "_has_ended", "_writer", "borrower")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.borrower: object | None = None  # the session whose savepoint is open
        self._has_begun = False
        self._has_ended = False

    async def connection(self) -> sqlite3.Connection:
        """The connection, inside the transaction."""
        if self._has_ended:
            raise StatementFailed("The unit has ended, and runs no more statements. Await them inside the handler.")
        if not self._has_begun:
            connection = await self._writer.begin()
            self._has_begun = True
            return connection
        connection = self._writer.connection
        self._check(connection)
        return connection

    async def commit(self) -> None:
        """Commits, if anything was begun."""
        if self._has_ended:
            raise StatementFailed("The unit has ended, and cannot be committed again. Open another.")
        self._has_ended = True
        if self._has_begun:
            try:
                self._check(self._writer.connection)
            except StoreUnavailable:
                self._writer.rollback()
                raise
            await self._writer.commit()

    def rollback(self) -> None:
        """Takes everything back, unless it was committed."""
        if self._has_begun and not self._has_ended:
            self._has_ended = True
            self._writer.rollback()
        self._has_ended = True

    @staticmethod
    def _check(connection: sqlite3.Connection) -> None:
        """After a full disk or a failed write SQLite rolls back by itself; what came then would be committed alone."""
        if not connection.in_transaction:
            raise StoreUnavailable("SQLite has rolled the unit back after an error. It can be tried again.")
