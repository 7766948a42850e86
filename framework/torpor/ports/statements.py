"""A handler's own SQL inside a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Statements(Protocol):
    """Statements of the unit's transaction. Parameters are written `$1`, `$2` … on every store.

    A refused statement raises StatementFailed, a lost database StoreUnavailable. A store that runs no SQL raises
    StatementFailed and says which store to configure.
    """

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        """Runs one statement; returns the number of rows it changed."""
        ...

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        """Runs one query; returns its rows by column name."""
        ...

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Runs one statement for each row of parameters, in order, as one exchange where the driver can."""
        ...

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Adds rows to `table` or `schema.table` as fast as the driver can; returns how many. Names are quoted."""
        ...

    def session(self) -> Any:
        """A new SQLModel `AsyncSession` on the unit's connection. Its commit only flushes; the unit commits."""
        ...
