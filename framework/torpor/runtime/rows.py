"""Rows to insert, by column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import StatementFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def table_rows(table: str, rows: Iterable[Mapping[str, object]]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """The columns of rows, and their values in that order. Raises StatementFailed when rows differ in their columns."""
    columns: Sequence[str] = ()
    known: frozenset[str] = frozenset()
    values: list[Sequence[object]] = []
    for number, row in enumerate(rows):
        if not values:
            columns, known = tuple(row), frozenset(row)
            _check(table, columns)
        if row.keys() != known:
            raise StatementFailed(_differing(table, number, known, frozenset(row)))
        values.append([row[column] for column in columns])
    return columns, values


def _check(table: str, columns: Sequence[str]) -> None:
    parts = table.split(".")
    if len(parts) > 2 or not all(parts) or "\0" in table:
        raise StatementFailed(f"tx.insert_many({table!r}, …): expected a table's name, or schema.table.")
    if not columns or not all(columns) or any("\0" in column for column in columns):
        raise StatementFailed(
            f"tx.insert_many({table!r}, …): the first row has the columns {list(columns)}. Expected at least one, each "
            "with a name."
        )


def _differing(table: str, number: int, known: frozenset[str], found: frozenset[str]) -> str:
    lacks = ", ".join(sorted(known - found))
    more = ", ".join(sorted(found - known))
    told = "; ".join([*([f"it lacks {lacks}"] if lacks else []), *([f"it has {more} too"] if more else [])])
    return (
        f"tx.insert_many({table!r}, …): row {number} has other columns than row 0: {told}. Give every row the same "
        "columns, with None where there is no value."
    )
