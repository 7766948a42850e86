"""A cursor's values in a SELECT of SQLAlchemy's: how they are compared, and whether a failure is theirs."""

from __future__ import annotations

import sys
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from torpor.kernel.errors import StatementFailed

if TYPE_CHECKING:
    from collections.abc import Sequence


def compared(column: Any, value: Any) -> Any:
    """A value as it is compared with a column: an integer as a long one, a moment with its zone or without, whatever
    the column's type is, since a client may say any; and as text where the column is one."""
    kinds, kind = _sqlalchemy(), column.type
    if isinstance(value, int) and isinstance(kind, kinds.Integer):
        return kinds.literal(value, kinds.BigInteger())
    if isinstance(value, datetime) and isinstance(kind, kinds.DateTime):
        return kinds.literal(value, kinds.DateTime(timezone=value.tzinfo is not None))
    if isinstance(value, date | UUID) and isinstance(kind, (kinds.String, *_texts())):
        return stored(value)
    return kinds.literal(value, kind) if isinstance(value, str) else value  # not by another type's operators


def stored(value: object) -> str:
    """The text that stands for a value where it was stored through a transaction."""
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else str(value)


def is_of(error: BaseException, statement: Any, names: Sequence[str], values: Sequence[Any]) -> bool:
    """Whether a statement of SQLAlchemy's has failed for one of a cursor's values: the database says that it cannot
    read that parameter, or the type of its column does not take it. Any other failure is not theirs."""
    errors = _sqlalchemy().exc
    if not isinstance(error, errors.StatementError):
        return False
    if not isinstance(error, errors.DBAPIError):  # it has not come to the database
        columns = statement.selected_columns
        return any(_refuses(columns[name].type, value) for name, value in zip(names, values, strict=True))
    bound, place = error.params, _unread(error)
    if place is None or not isinstance(bound, list | tuple) or place > len(bound):
        return False
    return any(bound[place - 1] is value for value in values)


def _unread(error: BaseException) -> int | None:
    """The number of the parameter that the database could not read, by one of a failure's causes."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, StatementFailed):
            return reason.parameter
        reason = reason.__cause__
    return None


def _refuses(kind: Any, value: Any) -> bool:
    """Whether the type of a column does not take a value."""
    try:
        process = kind.bind_processor(_sqlalchemy().engine.default.DefaultDialect())
        if process is not None:
            process(value)
        return not isinstance(value, kind.python_type)
    except NotImplementedError:  # a type may say nothing of Python's
        return False
    except Exception:  # noqa: BLE001  # whatever the author of a type raises for a value that is none
        return True


def _texts() -> tuple[Any, ...]:
    """What SQLModel has for a text without a type of SQLAlchemy's."""
    sqlmodel: Any = sys.modules.get("sqlmodel")
    return () if sqlmodel is None else (sqlmodel.AutoString,)


def _sqlalchemy() -> Any:
    """SQLAlchemy, which whoever has made the statement has imported."""
    return sys.modules["sqlalchemy"]
