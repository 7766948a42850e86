"""Lists that are answered a page at a time: the order that a list has, the place that a client has come to, a page."""

from __future__ import annotations

import hmac
import json
import math
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from uuid import UUID

from pydantic import BaseModel, Field

from torpor.kernel.errors import ConfigurationError, StatementFailed
from torpor.runtime.selecting import compared, is_of, stored

if TYPE_CHECKING:
    from torpor.runtime.secret import Secret
    from torpor.runtime.tx import Tx

T = TypeVar("T")
S = TypeVar("S")

LONGEST = 2048  # characters of a cursor
_VERSION = 1
_MOST = 100
_KIND_BYTES, _SEAL_BYTES = 6, 16
_LONG = 2**63  # beyond this a database has no integer
_NAME = re.compile(r"-?[^\"\0-]+")


class NoPlace(ValueError):
    """The database cannot read a cursor's values, which were not sealed: a client has made it up."""

    status_code = 422


class Page(BaseModel, Generic[T]):
    """One page of a list. `next` is the cursor of the page after it, and None on the last.

    ```python
    from typing import Annotated


    @orders.get("/notes")
    async def browse(cursor: Annotated[Cursor, Keyset({"-id": str})], tx: Tx) -> Page[dict[str, str]]:
        return cursor.page(await cursor.fetch(tx, "SELECT id, text FROM note"))
    ```
    """

    items: list[T]
    next: str | None = Field(default=None, description="The cursor of the next page; null on the last.")


class Keyset:
    """The order of a list that is read a page at a time: its columns, each with the type of its values.

    ```python
    LATEST = Keyset({"-placed_at": datetime, "-id": str}, limit=20, most=100)
    ```

    `-` before a name says that the largest comes first. Together the columns must tell every row from every other, so
    the last is mostly the primary key; none may be NULL. The types are str, int, float, date, datetime and UUID.
    `limit` is how long a page is unless the client says otherwise, and `most` how long it may say: 100, unless told.
    With a `secret` a cursor is sealed, and one that was not made here is refused whatever it holds.
    """

    __slots__ = ("_columns", "limit", "most", "secret")

    def __init__(
        self,
        columns: Mapping[str, type[Any]],
        *,
        limit: int = 20,
        most: int | None = None,
        secret: Secret | None = None,
    ) -> None:
        self._columns = tuple(_Column(name, kind) for name, kind in columns.items())
        self.limit = limit
        self.most = max(limit, _MOST) if most is None else most
        self.secret = secret
        problems = [] if columns else ["Keyset({}) has no order. Name columns: Keyset({'id': str})."]
        known = ", ".join(kind.__name__ for kind in _KINDS)
        for name, kind in columns.items():
            if not _NAME.fullmatch(name):
                problems.append(f"Keyset has the column {name!r}. Expected a column's name, with - before it or not.")
            if kind not in _KINDS:
                problems.append(f"Keyset has {name!r} of the type {kind!r}. Expected one of: {known}.")
        if len({column.name for column in self._columns}) != len(self._columns):
            problems.append(f"Keyset names a column twice: {', '.join(columns)}. Once is enough.")
        if not 1 <= self.limit <= self.most:
            problems.append(f"Keyset(limit={limit}, most={most}): expected 1 <= limit <= most.")
        if problems:
            raise ConfigurationError(problems)

    def cursor(self, text: str | None = None, *, limit: int | None = None, owner: str = "") -> Cursor:
        """The cursor that a client has given, or one at the beginning. `owner` is the list that it must be of.

        Raises ValueError, with what to tell the client, for a text that no page of this list has had.
        """
        after = None if text is None else self._read(text, owner)
        return Cursor(self, limit=self.limit if limit is None else limit, after=after, owner=owner)

    def write(self, row: object, owner: str) -> str:
        """The cursor of the page that begins after a row."""
        values = [column.written(row) for column in self._columns]
        told = json.dumps([_VERSION, self._kind(owner), *values], separators=(",", ":"), allow_nan=False).encode()
        return _as_text(told + self._seal(told, owner))

    def condition(self, first: int) -> str:
        """SQL that holds for the rows of `listed` behind the values `$first` and on."""
        names = [column.sql for column in self._columns]
        marks = [column.mark(first + place) for place, column in enumerate(self._columns)]
        signs = ["<" if column.falls else ">" for column in self._columns]
        if len(set(signs)) == 1:
            return f"({', '.join(names)}) {signs[0]} ({', '.join(marks)})"
        rows = list(zip(names, marks, signs, strict=True))
        ways = []
        for place, (name, mark, sign) in enumerate(rows):
            same = [f"{earlier} = {value}" for earlier, value, _ in rows[:place]]
            ways.append(" AND ".join([*same, f"{name} {sign} {mark}"]))
        return f"({' OR '.join(f'({way})' for way in ways)})"

    @property
    def order(self) -> str:
        """SQL for the order of the rows of `listed`."""
        return ", ".join(f"{column.sql} {'DESC' if column.falls else 'ASC'}" for column in self._columns)

    def ordered(self, statement: Any, after: tuple[Any, ...] | None) -> Any:
        """A SQLAlchemy SELECT in this order, behind some values."""
        found = statement.selected_columns
        missing = [column.name for column in self._columns if column.name not in found]
        if missing:
            raise ConfigurationError(
                [f"{self!r} orders by {missing[0]!r}, which the statement does not select. Select it, or change one."]
            )
        rows = [found[column.name] for column in self._columns]
        for row, column in zip(rows, self._columns, strict=True):
            statement = statement.order_by(row.desc() if column.falls else row.asc())
        if after is None:
            return statement
        behind: Any = None
        values = [compared(row, value) for row, value in zip(rows, after, strict=True)]
        for row, column, value in reversed(list(zip(rows, self._columns, values, strict=True))):
            beyond, reaches = (row < value, row <= value) if column.falls else (row > value, row >= value)
            # The first part lets a database begin at the place in an index, which it does not see through the OR.
            behind = beyond if behind is None else reaches & (beyond | ((row == value) & behind))
        return statement.where(behind)

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self._columns]

    def check(self, row: object) -> None:
        """Raises ConfigurationError for a row that tells no place in this order."""
        for column in self._columns:
            column.written(row)

    def _read(self, text: str, owner: str) -> tuple[Any, ...]:
        if len(text) > LONGEST:
            raise ValueError(_STRANGE)
        try:
            raw = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            if _as_text(raw) != text:
                raise ValueError(_STRANGE)
            size = _SEAL_BYTES if self.secret is not None else 0
            told = raw[: len(raw) - size]
            if not hmac.compare_digest(raw[len(told) :], self._seal(told, owner)):
                raise ValueError(_STRANGE)
            version, kind, *values = json.loads(told)
            if version != _VERSION or len(values) != len(self._columns) or kind != self._kind(owner):
                raise ValueError(_STRANGE)
            return tuple(column.read(value) for column, value in zip(self._columns, values, strict=True))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(_STRANGE) from error

    def _kind(self, owner: str) -> str:
        """What tells the cursors of one list from those of others."""
        told = "\n".join([owner, *(f"{column!r}" for column in self._columns)])
        return blake2b(told.encode(), digest_size=_KIND_BYTES).hexdigest()

    def _seal(self, told: bytes, owner: str) -> bytes:
        if self.secret is None:
            return b""
        key = blake2b(self.secret.read().encode()).digest()
        return blake2b(owner.encode() + b"\n" + told, key=key, digest_size=_SEAL_BYTES).digest()

    def __repr__(self) -> str:
        return f"Keyset({', '.join(map(repr, self._columns))})"


class Cursor:
    """Where a client has come to in a list, and how much of it he wants: a route asks for it with its `Keyset`.

    ```python
    from typing import Annotated


    @orders.get("/notes")
    async def browse(cursor: Annotated[Cursor, Keyset({"-id": str})], tx: Tx) -> Page[dict[str, str]]:
        rows = await cursor.fetch(tx, "SELECT id, text FROM note WHERE author = $1", "ada")
        return cursor.page(rows)
    ```

    The client gives `limit` and `cursor` in the query. `after` holds the values of the row after which the page begins,
    None on the first; `fetch` and `order` write what SQL needs of it.
    """

    __slots__ = ("_keyset", "_ordered", "_owner", "after", "limit")

    def __init__(self, keyset: Keyset, *, limit: int, after: tuple[Any, ...] | None, owner: str) -> None:
        self._keyset = keyset
        self._owner = owner
        self._ordered: list[Any] = []  # statements
        self.limit = limit
        self.after = after

    async def fetch(self, tx: Tx, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Runs a SELECT without ORDER BY and LIMIT; returns the rows of the page, and one more if there is more.

        The statement must select the columns of the `Keyset`. Raises ValueError when the database cannot read the
        values of a cursor that a client may have made up, which a route answers as any strange cursor.
        """
        given = [*parameters, *(str(value) if isinstance(value, UUID) else value for value in self.after or ())]
        behind = f"WHERE {self._keyset.condition(len(parameters) + 1)}\n" if self.after is not None else ""
        limit = f"ORDER BY {self._keyset.order} LIMIT ${len(given) + 1}"
        listed = f"(\n{statement.strip().rstrip(';')}\n) AS listed"
        whole = f"SELECT * FROM {listed}\n{behind}{limit}"  # noqa: S608  # what a client says is a parameter
        try:
            return await tx.fetch(whole, *given, self.limit + 1)
        except StatementFailed as error:
            if self._is_told and len(parameters) < (error.parameter or 0) <= len(given):
                raise NoPlace(_STRANGE) from error
            raise

    def order(self, statement: S) -> S:
        """A SELECT of SQLModel or SQLAlchemy in the order of the `Keyset`, from this cursor on, and no longer than
        `page` needs. Its columns must be among those that are selected."""
        found: Any = self._keyset.ordered(statement, self.after)
        limited: S = found.limit(self.limit + 1)
        if self._is_told:
            self._ordered.append(statement)
        return limited

    @overload
    def page(self, rows: Iterable[T]) -> Page[T]: ...

    @overload
    def page(self, rows: Iterable[S], make: Callable[[S], T]) -> Page[T]: ...

    def page(self, rows: Iterable[Any], make: Callable[[Any], Any] | None = None) -> Page[Any]:
        """The page of some rows, which begin at this cursor, in its order; one more than `limit` tells that there is
        more. `make` makes the items of them."""
        found = list(rows)
        kept = found[: self.limit]
        if found:
            self._keyset.check(kept[-1])
        following = self._keyset.write(kept[-1], self._owner) if len(found) > len(kept) else None
        return Page(items=kept if make is None else [make(row) for row in kept], next=following)

    def misplaced(self, error: BaseException) -> NoPlace | None:
        """What a failure is told as when it is that of a made-up cursor; None for any other."""
        if isinstance(error, NoPlace):
            return error
        after = self.after or ()
        is_its = any(is_of(error, statement, self._keyset.names, after) for statement in self._ordered)
        return NoPlace(_STRANGE) if is_its else None

    @property
    def _is_told(self) -> bool:
        """Whether a client has said its values, and nobody has sealed them."""
        return self.after is not None and self._keyset.secret is None

    def __repr__(self) -> str:
        return f"<Cursor limit={self.limit} after={self.after}>"


_STRANGE = "This is no cursor of this list. Begin without one, and send each as it came."


class _Column:
    """One column of an order."""

    __slots__ = ("_kind", "falls", "name", "sql")

    def __init__(self, name: str, kind: type[Any]) -> None:
        self.falls = name.startswith("-")
        self.name = name.removeprefix("-")
        self.sql = f'listed."{self.name}"'
        self._kind = kind

    def mark(self, place: int) -> str:
        """The parameter for its value. A number is compared as a long one, whatever the column's is: a client may say
        any."""
        wide = _WIDE.get(self._kind)
        return f"${place}" if wide is None else f"CAST(${place} AS {wide})"

    def written(self, row: object) -> str | int | float:
        """The value of a row, as JSON. SQLite gives texts for what it has no type for."""
        try:
            value = row[self.name] if isinstance(row, Mapping) else getattr(row, self.name)
        except (LookupError, AttributeError):
            raise ConfigurationError(
                [f"A row of a page has no {self.name!r}, by which its Keyset orders. Select it."]
            ) from None
        told, kind = value, self._kind
        if kind in _TEXTS and isinstance(value, str):
            told = _KINDS[kind](value) if _is_readable(kind, value) else None
            told = told if told is not None and stored(told) == value else None
        if not _is_of(told, kind):
            raise ConfigurationError(
                [
                    (
                        f"A row of a page has {type(value).__name__} in {self.name!r}, of which its Keyset says "
                        f"{kind.__name__}. Name the type as the database gives it; a column that may be NULL "
                        "tells no place."
                    )
                ]
            )
        if isinstance(told, datetime) and told.tzinfo is not None:
            told = told.astimezone(UTC)
        return told if isinstance(told, str | int | float) else str(told)

    def read(self, value: Any) -> Any:
        """The value that a client says. Raises ValueError or TypeError."""
        is_number = self._kind in {int, float}
        if type(value) not in ({int, float} if self._kind is float else {self._kind if is_number else str}):
            raise TypeError(_STRANGE)
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise ValueError(_STRANGE)
        read = _KINDS[self._kind](value)
        if isinstance(read, datetime) and read.tzinfo is not None:
            read = read.astimezone(UTC)
        if isinstance(read, float) and not math.isfinite(read):
            raise ValueError(_STRANGE)
        if isinstance(read, int) and not -_LONG <= read < _LONG:
            raise ValueError(_STRANGE)
        return read

    def __repr__(self) -> str:
        return f"{'-' * self.falls}{self.name}: {getattr(self._kind, '__name__', self._kind)}"


_KINDS: dict[type[Any], Callable[[Any], Any]] = {
    str: str,
    int: int,
    float: float,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
    UUID: UUID,
}
_WIDE = {int: "BIGINT", float: "DOUBLE PRECISION"}
_TEXTS = frozenset({date, datetime, UUID})  # what a database without such a type keeps as text


def _is_of(value: object, kind: type[Any]) -> bool:
    """Whether a value is one of a kind, and can be compared."""
    if isinstance(value, bool) or (kind is date and isinstance(value, datetime)):
        return False
    return isinstance(value, int | float) and math.isfinite(value) if kind is float else isinstance(value, kind)


def _is_readable(kind: type[Any], text: str) -> bool:
    try:
        _KINDS[kind](text)
    except ValueError:
        return False
    return True


def _as_text(told: bytes) -> str:
    return urlsafe_b64encode(told).rstrip(b"=").decode()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
