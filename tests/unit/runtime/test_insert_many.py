"""`tx.insert_many`: rows by column, in order with everything else that a handler writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from torpor import Event, Retry, Service, Tx
from torpor.kernel.errors import StatementFailed
from torpor.runtime.rows import table_rows
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    Rows = Iterable[Mapping[str, object]]


class Counted(Event, topic="counted"):
    n: int


@pytest.fixture
def migrations(tmp_path: Path) -> str:
    """A folder with a table `stock`."""
    (tmp_path / "0001_stock.sql").write_text("CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER)")
    return str(tmp_path)


async def handled(migrations: str, rows: Callable[[], Rows]) -> tuple[list[Any], list[str], list[str]]:
    """Inserts rows after a deferred statement and before another; returns what was told, what is there, and why the
    message was parked if it was."""
    service = Service("warehouse", migrations=migrations)
    told: list[Any] = []

    @service.on(Counted, retry=Retry(attempts=1))
    async def count(event: Counted, tx: Tx) -> None:
        tx.write("INSERT INTO stock (sku, n) VALUES ($1, $2)", "first", 1)
        told.append(await tx.insert_many("stock", rows()))
        tx.write("UPDATE stock SET n = n + 10")

    @service.get("/stock")
    async def stock(tx: Tx) -> list[str]:
        return [f"{row['sku']} {row['n']}" for row in await tx.fetch("SELECT sku, n FROM stock ORDER BY rowid")]

    async with TestShop(service) as shop:
        await shop.publish(Counted(n=1))
        await shop.settle()
        return told, (await shop.get("/stock")).json(), [row.reason for row in await shop.parked()]


async def test_rows_come_between_the_deferred_statements_around_them(migrations: str) -> None:
    """What was deferred before is sent before, what comes after comes after; the columns' order may differ."""
    told, stock, parked = await handled(migrations, lambda: [{"sku": "a", "n": 2}, {"n": 3, "sku": "b"}])
    assert (told, stock, parked) == ([2], ["first 11", "a 12", "b 13"], [])


async def test_no_rows_are_no_work(migrations: str) -> None:
    """An empty list, and an empty iterator, insert nothing and are no mistake."""
    told, stock, parked = await handled(migrations, lambda: iter(()))
    assert (told, stock, parked) == ([0], ["first 11"], [])


async def test_a_refused_row_takes_the_handler_back(migrations: str) -> None:
    """The message is parked with the database's reason, and none of its rows is there."""
    told, stock, parked = await handled(migrations, lambda: [{"sku": "a", "n": 2}, {"sku": "a", "n": 3}])
    assert (told, stock) == ([], [])
    assert "UNIQUE" in parked[0]


@pytest.mark.parametrize(
    ("table", "rows", "expected"),
    [
        ("stock", [{"sku": 1}, {"sku": 2, "n": 3}], "row 1 has other columns than row 0: it has n too"),
        ("stock", [{"sku": 1, "n": 1}, {"sku": 2}], "it lacks n"),
        ("stock", [{"sku": 1}, {"SKU": 2}], "it lacks sku; it has SKU too"),
        ("stock", [{}], "at least one"),
        ("stock", [{"": 1}], "each with a name"),
        ("", [{"sku": 1}], "schema.table"),
        ("a.b.c", [{"sku": 1}], "schema.table"),
        ("a.", [{"sku": 1}], "schema.table"),
        ("st\0ock", [{"sku": 1}], "schema.table"),
    ],
)
def test_what_is_no_table_of_rows_is_told(table: str, rows: list[dict[str, object]], expected: str) -> None:
    """Rows of differing columns, rows without any, and names that cannot be a table's."""
    with pytest.raises(StatementFailed, match=expected):
        table_rows(table, rows)
