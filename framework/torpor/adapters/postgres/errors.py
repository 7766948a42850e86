"""What asyncpg raises, as Torpor's errors."""

from __future__ import annotations

import re

import asyncpg

from torpor.kernel.errors import StatementFailed, StoreUnavailable

# What a statement, its parameters or the connection can make asyncpg raise. ValueError comes from text that is no
# Unicode (a lone surrogate).
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    ValueError,
    OverflowError,
)

# What a value of another type than its column's raises while COPY encodes it.
CODEC_ERRORS = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError)

_SHOWN = 200

# SQLSTATEs that speak of the database, not of the statement: connection, resources, shutdown, I/O, corruption; a
# transaction that was ended for standing idle; a standby, which writes nothing.
_UNAVAILABLE = ("08", "53", "57P", "58", "XX001", "XX002", "25P03", "25P04", "25006")
# The transaction lost against another, or a migration has changed the tables under it: done again, it succeeds.
_AGAIN = ("40", "55P03")
_ABORTED = "25P02"
# Of a statement of Torpor's own: the role lacks a permission, a table or its schema is gone. No message is to blame.
_UNFIT = ("42501", "42P01", "3F000")
_ARGUMENT = re.compile(r"invalid input for query argument \$(\d+)")
_PORTAL = re.compile(r"portal (?:\S+ )?parameter \$(\d+)")
_UNPREPARED = ("26000", "42P05")  # the statement is on another connection of the pooler


def refusal(error: Exception, statement: str) -> StatementFailed | StoreUnavailable:
    """The error to raise from a driver's error. It tells the statement's first line, and never a parameter's value:
    the driver's own text is rid of them too, since it is logged as the cause."""
    parameter = _unread(error)
    _conceal(error)
    state = getattr(error, "sqlstate", None) or ""
    if is_outage(error):
        return StoreUnavailable(f"PostgreSQL cannot go on: {told(error)}. The unit was rolled back; try it again.")
    if state in _UNFIT and "torpor_" in statement:
        return StoreUnavailable(
            f"PostgreSQL keeps Torpor from its own tables: {told(error)}. Give the role what it needs, and run "
            "`torpor migrate` if a table is missing."
        )
    if state in _UNPREPARED:
        return StatementFailed(
            f"PostgreSQL lost a prepared statement: {told(error)}. Behind a pooler in transaction mode (PgBouncer) set "
            "PostgresOptions(is_pooled=True)."
        )
    advice = ""
    if state == _ABORTED:
        advice = " An earlier statement of the unit failed, and PostgreSQL then runs no more: let its error pass."
    text = f"PostgreSQL refused a statement: {told(error)}.{advice} Statement: {first_line(statement)}"
    return StatementFailed(text, parameter=parameter)


def unfit(error: Exception, statement: str) -> StatementFailed:
    """The error to raise when a value cannot be encoded. What is told of it names types, and no value."""
    what = told(error) if isinstance(error, (TypeError, AttributeError, UnicodeError)) else type(error).__name__
    return StatementFailed(
        f"A row holds a value that its column does not take: {what}. Statement: {first_line(statement)}"
    )


def is_outage(error: Exception) -> bool:
    """Whether the unit failed for the database's reasons, and may succeed when it is tried again."""
    if isinstance(error, (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)):
        return True
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", None) or ""
        return state.startswith(_UNAVAILABLE) or state.startswith(_AGAIN)
    if isinstance(error, asyncpg.InterfaceError):
        return "is closed" in str(error) or "closed in the middle" in str(error)
    return isinstance(error, (OSError, asyncpg.InternalClientError))


def told(error: BaseException) -> str:
    """What went wrong, as one line without values."""
    if isinstance(error, UnicodeError):
        return "a text holds a lone surrogate, which is no Unicode character"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    text = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else str(error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


def first_line(statement: str) -> str:
    """The first line that says something, cut to a readable length."""
    line = next((line.strip() for line in statement.splitlines() if line.strip()), "")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _unread(error: Exception) -> int | None:
    """The number of the parameter whose value asyncpg, or PostgreSQL, could not read. The latter says so since 14."""
    found = _ARGUMENT.match(str(error)) or _PORTAL.search(getattr(error, "context", None) or "")
    return None if found is None else int(found[1])


def _conceal(error: Exception) -> None:
    """Takes the values out of a driver's error: `detail` quotes rows, some messages quote what they could not read."""
    if isinstance(error, asyncpg.PostgresError):
        error.detail = None
        if (getattr(error, "sqlstate", None) or "").startswith("22") and error.args:
            error.args = (str(error.args[0]).partition(': "')[0],)
    if isinstance(error, ValueError) or type(error) is asyncpg.DataError:
        found = _ARGUMENT.match(str(error))
        if found is not None:
            error.args = (f"parameter ${found[1]} is no value of the type that the statement has there",)
            error.__cause__ = None
