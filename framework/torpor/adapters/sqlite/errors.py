"""What sqlite3 raises, as Torpor's errors."""

from __future__ import annotations

import sqlite3

from torpor.kernel.errors import StatementFailed, StoreUnavailable

# What a statement, its parameters or the disk can make sqlite3 raise. ValueError and OverflowError come from values
# that it cannot bind (a lone surrogate, an integer past 64 bits), Warning from two statements in one text.
DRIVER_ERRORS = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError)

_SHOWN = 200

# Primary result codes that speak of the database, not of the statement: INTERNAL, PERM, BUSY, LOCKED, NOMEM, READONLY,
# INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
_UNAVAILABLE = frozenset({2, 3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 26})
_BUSY = 5


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds the lock that was asked for."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF == _BUSY


def refusal(error: Exception, statement: str) -> StatementFailed | StoreUnavailable:
    """The error to raise from a driver's error. It tells the statement's first line, and never a parameter's value."""
    if isinstance(error, sqlite3.Error) and is_outage(error):
        return StoreUnavailable(f"SQLite cannot go on: {error}. The unit was rolled back and can be tried again.")
    return StatementFailed(f"SQLite refused a statement: {_told(error)}. Statement: {first_line(statement)}")


def is_outage(error: sqlite3.Error) -> bool:
    """Whether the database failed, and not the statement."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "closed database" in str(error)
    return code & 0xFF in _UNAVAILABLE


def first_line(statement: str) -> str:
    """The first line that says something, cut to a readable length."""
    line = next((line.strip() for line in statement.splitlines() if line.strip()), "")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _told(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "a text holds a lone surrogate, which is no Unicode character"
    return str(error).rstrip(".")
