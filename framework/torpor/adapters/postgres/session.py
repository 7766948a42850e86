"""SQLModel sessions on a unit's connection. Imported with the first `tx.session`, for it loads SQLAlchemy.

One engine serves all units: its pool keeps nothing, and its creator lends the connection of the unit whose session is
asking. The session's own transaction becomes a savepoint of the unit's, so its rollback takes back its work alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import LRUCache
from sqlalchemy.util.concurrency import await_only
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from torpor.adapters.postgres.errors import DRIVER_ERRORS, is_outage, refusal
from torpor.kernel.errors import StatementFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from torpor.adapters.postgres.transaction import Transaction

_SAVEPOINT = "torpor_session"
_STATEMENTS = 200  # that stay prepared on a connection


class Lender:
    """Makes the sessions of one store's units."""

    __slots__ = ("_dbapi", "_engine", "_is_pooled", "_prepared", "asking")

    def __init__(self, *, is_pooled: bool) -> None:
        # SQLAlchemy finds a dialect by the name in its URL only.
        registry.register("postgresql.torpor", __name__, LentDialect.__name__)
        self._engine = create_async_engine(
            "postgresql+torpor://",
            creator=self._lend,
            poolclass=NullPool,
            pool_reset_on_return=None,
            hide_parameters=True,
        )
        self._dbapi = LentDialect.import_dbapi()  # type: ignore[no-untyped-call]
        self._is_pooled = is_pooled
        self._prepared: WeakKeyDictionary[asyncpg.Connection, Any] = WeakKeyDictionary()
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
        lent = LentConnection(self._dbapi, connection, prepared_statement_cache_size=0)  # type: ignore[no-untyped-call]
        # What is prepared lasts as long as the connection, not the loan; behind a pooler not even that.
        prepared = None if self._is_pooled else self._prepared.setdefault(connection, LRUCache(_STATEMENTS))
        lent.lend(transaction, prepared)
        return lent


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
            cause = None if error.orig is None else error.orig.__cause__
            if isinstance(cause, DRIVER_ERRORS):
                raise refusal(cause, error.statement or "") from error
            raise
        except SQLAlchemyError as error:
            raise StatementFailed(f"What tx.session held back could not be sent: {error}") from error


class LentDialect(PGDialect_asyncpg):
    """PostgreSQL by a lent connection. SQLAlchemy itself reads JSON: the codecs of the connection are the unit's."""

    driver = "torpor"
    supports_statement_cache = True
    supports_native_json_deserialization = False
    dialect_injects_custom_json_deserializer = False

    def on_connect(self) -> Callable[[Any], None]:
        """What is done with each loan: nothing, for the connection is the unit's."""
        return _leave


class LentConnection(AsyncAdapt_asyncpg_connection):
    """A unit's connection, as SQLAlchemy sees it: its transaction is a savepoint, and closing it does nothing."""

    transaction: Transaction

    def lend(self, transaction: Transaction, prepared: Any) -> None:
        """Sets whose connection it is, and what is prepared on it."""
        self.transaction = transaction
        self._prepared_statement_cache = prepared

    async def _prepare(self, operation: Any, invalidate_timestamp: Any) -> Any:
        await self.transaction.connection()
        return await super()._prepare(operation, invalidate_timestamp)  # type: ignore[no-untyped-call]

    async def _start_transaction(self) -> None:
        """Opens the session's savepoint. There is one at a time: an earlier session's work joins the unit's."""
        release = f"RELEASE {_SAVEPOINT}; " if self.transaction.borrower is not None else ""
        await self._send(f"{release}SAVEPOINT {_SAVEPOINT}")
        self.transaction.borrower = self
        self._transaction = self  # type: ignore[assignment]  # SQLAlchemy asks only whether there is one

    def commit(self) -> None:
        """Lets the session's work join the unit's."""
        self._transaction = None
        if self.transaction.borrower is self:
            self.transaction.borrower = None
            await_only(self._send(f"RELEASE {_SAVEPOINT}"))

    def rollback(self) -> None:
        """Takes the session's work back."""
        has_begun, self._transaction = self._transaction is not None, None
        if self.transaction.borrower is self:
            self.transaction.borrower = None
            if self.transaction.is_open:
                await_only(self._send(f"ROLLBACK TO {_SAVEPOINT}; RELEASE {_SAVEPOINT}"))
        elif has_begun:
            raise StatementFailed(
                "A session cannot roll back alone once another session of its unit has begun. Use one tx.session."
            )

    def close(self) -> None:
        """Nothing: the connection is the unit's."""

    def terminate(self) -> None:
        """Nothing: the connection is the unit's."""

    async def _send(self, statement: str) -> None:
        connection = await self.transaction.connection()
        try:
            await connection.execute(statement)
        except DRIVER_ERRORS as error:
            self._handle_exception(error)

    def _handle_exception(self, error: Exception) -> NoReturn:
        """A lost database or transaction is told as the unit's own statements would; the rest as SQLAlchemy does."""
        if isinstance(error, DRIVER_ERRORS):
            mapped = refusal(error, "tx.session")  # rids it of values too
            if is_outage(error):
                if self._prepared_statement_cache is not None:
                    self._prepared_statement_cache.clear()  # a migration may have changed the tables under it
                raise mapped from error
            error.__cause__ = mapped  # which parameter it was, for whoever can tell whose that is
        super()._handle_exception(error)


def _leave(lent: LentConnection) -> None:
    """Leaves a loan as it is."""
