"""SQLModel sessions on a unit's connection. Imported with the first `tx.session`, for it loads SQLAlchemy.

One engine serves all units: its pool keeps nothing, and its creator lends the connection of the unit whose session is
asking. The session's own transaction becomes a savepoint of the unit's, so its rollback takes back its work alone.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util.concurrency import await_only
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from torpor.adapters.sqlite.errors import refusal
from torpor.kernel.errors import StatementFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.adapters.sqlite.transaction import Transaction

_SAVEPOINT = "torpor_session"


class Lender:
    """Makes the sessions of one store's units."""

    __slots__ = ("_engine", "_give_functions", "asking")

    def __init__(self) -> None:
        # SQLAlchemy finds a dialect by the name in its URL only.
        registry.register("sqlite.torpor", __name__, LentDialect.__name__)
        self._engine = create_async_engine(
            "sqlite+torpor://",
            creator=self._lend,
            poolclass=NullPool,
            pool_reset_on_return=None,
            hide_parameters=True,
        )
        dialect = SQLiteDialect_pysqlite(dbapi=SQLiteDialect_pysqlite.import_dbapi())
        self._give_functions: Callable[[Any], None] | None = dialect.on_connect()
        self.asking: Transaction | None = None

    def session(self, transaction: Transaction) -> UnitSession:
        """A new session inside a unit's transaction."""
        return UnitSession(
            self._engine,
            sync_session_class=AskingSession,
            expire_on_commit=False,
            close_resets_only=False,
            info={"lender": self, "transaction": transaction},
        )

    def _lend(self) -> LentConnection:
        transaction = self.asking
        if transaction is None:
            raise StatementFailed("The engine of tx.session has no connection of its own. Use the session.")
        connection = await_only(transaction.connection())
        if self._give_functions is not None:  # `regexp` and `floor`, which SQLAlchemy counts on
            self._give_functions(connection)
            self._give_functions = None
        return LentConnection(transaction, connection)


class AskingSession(Session):
    """Says which unit is asking, right before SQLAlchemy asks the engine for a connection."""

    def get_bind(self, *args: Any, **options: Any) -> Any:
        """What the session speaks to: the one engine."""
        self.info["lender"].asking = self.info["transaction"]
        return super().get_bind(*args, **options)


class UnitSession(AsyncSession):
    """What a handler gets as `tx.session`. `commit` sends what is held back; the unit makes it durable."""

    is_closed = False

    async def close(self) -> None:
        """Ends the session. What it has sent stays with the unit; what it has not is forgotten."""
        self.is_closed = True
        await self.invalidate()

    async def send(self) -> None:
        """Commits for the unit: what the database refuses now is told as the unit's own statements would."""
        try:
            await self.commit()
        except DBAPIError as error:
            if isinstance(error.orig, Exception):
                raise refusal(error.orig, error.statement or "") from error
            raise
        except SQLAlchemyError as error:
            raise StatementFailed(f"What tx.session held back could not be sent: {error}") from error


class LentDialect(SQLiteDialect_pysqlite):
    """SQLite by a lent connection, for SQLAlchemy's asyncio front. It never leaves the loop's thread."""

    driver = "torpor"
    is_async = True
    supports_statement_cache = True

    def on_connect(self) -> Callable[[Any], None]:
        """What is done with each loan: nothing, for it is the same connection."""
        return _leave

    def do_begin(self, dbapi_connection: Any) -> None:
        """Opens the session's savepoint."""
        dbapi_connection.begin()


class LentConnection:
    """A unit's connection, as SQLAlchemy sees it: its transaction is a savepoint, and closing it does nothing."""

    __slots__ = ("_connection", "_has_begun", "_transaction")

    def __init__(self, transaction: Transaction, connection: sqlite3.Connection) -> None:
        self._transaction = transaction
        self._connection = connection
        self._has_begun = False

    def cursor(self) -> LentCursor:
        """A cursor that asks the unit before each statement."""
        cursor = self._connection.cursor(LentCursor)
        cursor.transaction = self._transaction
        return cursor

    def begin(self) -> None:
        """Opens the session's savepoint. There is one at a time: an earlier session's work joins the unit's."""
        if self._transaction.borrower is not None:
            self._connection.execute(f"RELEASE {_SAVEPOINT}")
        self._connection.execute(f"SAVEPOINT {_SAVEPOINT}")
        self._transaction.borrower = self
        self._has_begun = True

    def commit(self) -> None:
        """Lets the session's work join the unit's."""
        self._has_begun = False
        if self._transaction.borrower is self:
            self._transaction.borrower = None
            self._connection.execute(f"RELEASE {_SAVEPOINT}")

    def rollback(self) -> None:
        """Takes the session's work back."""
        has_begun, self._has_begun = self._has_begun, False
        if self._transaction.borrower is self:
            self._transaction.borrower = None
            if self._connection.in_transaction:
                self._connection.execute(f"ROLLBACK TO {_SAVEPOINT}")
                self._connection.execute(f"RELEASE {_SAVEPOINT}")
        elif has_begun:
            raise StatementFailed(
                "A session cannot roll back alone once another session of its unit has begun. Use one tx.session."
            )

    def close(self) -> None:
        """Nothing: the connection is the unit's."""


class LentCursor(sqlite3.Cursor):
    """Asks the unit before each statement, as an asynchronous driver would wait."""

    transaction: Transaction

    def execute(self, sql: str, parameters: Any = (), /) -> LentCursor:
        """Runs one statement."""
        await_only(self.transaction.connection())
        super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Any, /) -> LentCursor:
        """Runs one statement for each row."""
        await_only(self.transaction.connection())
        super().executemany(sql, parameters)
        return self


def _leave(lent: LentConnection) -> None:
    """Leaves a loan as it is."""
