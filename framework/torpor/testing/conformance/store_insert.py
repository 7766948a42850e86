"""Many rows at once, into a service's own tables. See `torpor.testing.conformance.store`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest

from torpor.kernel.errors import StatementFailed
from torpor.testing.conformance.store import OWN, StoreSuite, needs
from torpor.testing.conformance.store_sql import rows, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.ports.store import Store

_STOCK = """
CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER NOT NULL DEFAULT 7 CHECK (n >= 0), at TIMESTAMP, raw BYTEA);
CREATE TABLE "odd ""name" ("Mixed Case" TEXT, "select" INTEGER)
"""
_COLUMNS = ("sku", "n")


class InsertConformance(StoreSuite):
    """`insert_many`: all rows in the unit's transaction, or none."""

    async def test_rows_are_added_in_the_unit(self, store: Store) -> None:
        """They are there for the unit's next statement, for others after the commit, and counted."""
        await _ready(store)
        async with store.unit() as unit:
            await run(unit, "INSERT INTO stock (sku, n) VALUES ($1, $2)", "a", 1)
            assert await unit.statements.insert_many("stock", _COLUMNS, [("b", 2), ("c", 3)]) == 2
            assert await run(unit, "UPDATE stock SET n = n + 1") == 3
            await unit.commit()

        assert await rows(store, "SELECT sku, n FROM stock ORDER BY sku") == [
            {"sku": "a", "n": 2},
            {"sku": "b", "n": 3},
            {"sku": "c", "n": 4},
        ]

    async def test_a_unit_without_a_commit_adds_none(self, store: Store) -> None:
        """What was inserted goes with its unit, and with a fall back to the savepoint."""
        await _ready(store)
        async with store.unit() as unit:
            await unit.statements.insert_many("stock", _COLUMNS, [("a", 1)])
        async with store.unit() as unit:
            await unit.statements.insert_many("stock", _COLUMNS, [("b", 1)])
            await unit.savepoint()
            await unit.statements.insert_many("stock", _COLUMNS, [("c", 1)])
            await unit.rollback_to_savepoint()
            await unit.statements.insert_many("stock", _COLUMNS, [("d", 1)])
            await unit.commit()

        assert await rows(store, "SELECT sku FROM stock ORDER BY sku") == [{"sku": "b"}, {"sku": "d"}]

    async def test_a_row_that_the_table_refuses_fails_the_statement(self, store: Store) -> None:
        """A doubled key and a broken rule are told like those of any statement, without values, and nothing stays."""
        await _ready(store)
        for bad, reason in ([("secret a", 1), ("secret a", 2)], "(?i)unique"), ([("a", -1)], "(?i)check"):
            async with store.unit() as unit:
                with pytest.raises(StatementFailed, match=reason) as failure:
                    await unit.statements.insert_many("stock", _COLUMNS, bad)
            assert "secret" not in str(failure.value)
            assert "stock" in str(failure.value)
        assert await rows(store, "SELECT sku FROM stock") == []

    @pytest.mark.parametrize(
        ("table", "columns", "row"),
        [
            ("no_such_table", ("sku",), ("a",)),
            ("no_such_schema.stock", ("sku",), ("a",)),
            ("stock", ("sku", "no_such_column"), ("a", 1)),
            ("stock; DROP TABLE stock", ("sku",), ("a",)),
            ('stock" ("sku") VALUES (\'b\'); --', ("sku",), ("a",)),
            ("stock", ("sku\") VALUES ('b'); --",), ("a",)),
            ("stock", ("sku",), (object(),)),
            ("stock", ("sku", "n"), ("a",)),
            ("stock", ("sku",), ("\ud800",)),
        ],
        ids=str,
    )
    async def test_what_does_not_fit_is_refused(
        self, store: Store, table: str, columns: Sequence[str], row: Sequence[object]
    ) -> None:
        """Unknown names, names that are SQL, and values of no type; the table is as it was."""
        await _ready(store)
        async with store.unit() as unit:
            with pytest.raises(StatementFailed):
                await unit.statements.insert_many(table, columns, [row])
        assert await rows(store, "SELECT sku FROM stock") == []

    async def test_names_are_taken_as_they_are(self, store: Store) -> None:
        """Capitals, quotes, spaces and words of SQL are part of a name."""
        await _ready(store)
        async with store.unit() as unit:
            assert await unit.statements.insert_many('odd "name', ("Mixed Case", "select"), [("a", 1)]) == 1
            await unit.commit()
        assert await rows(store, 'SELECT * FROM "odd ""name"') == [{"Mixed Case": "a", "select": 1}]

    async def test_values_are_stored_as_those_of_a_statement(self, store: Store) -> None:
        """Nothing, bytes, text of any script and times come back as they do when `execute` has written them."""
        await _ready(store)
        at = datetime.datetime(2026, 11, 21, 9, 30, 0, 5)  # noqa: DTZ001  # for a column without a zone
        columns, values = ("sku", "n", "at", "raw"), ("é \\N \t\n\\.", 0, at, b"\x00\xff")
        async with store.unit() as unit:
            await unit.statements.insert_many("stock", columns, [values, ("empty", 1, None, None)])
            await run(unit, "INSERT INTO stock (sku, n, at, raw) VALUES ($1, $2, $3, $4)", "b", *values[1:])
            await unit.commit()

        first, second = await rows(store, "SELECT at, raw FROM stock WHERE n = 0 ORDER BY sku")
        assert first == second
        found = await rows(store, "SELECT sku, at FROM stock WHERE sku <> 'b' ORDER BY n")
        assert (found[0]["sku"], found[1]) == (values[0], {"sku": "empty", "at": None})

    async def test_columns_that_are_left_out_have_their_default(self, store: Store) -> None:
        """As with any insert."""
        await _ready(store)
        async with store.unit() as unit:
            await unit.statements.insert_many("stock", ("sku",), [("a",)])
            await unit.commit()
        assert await rows(store, "SELECT n FROM stock") == [{"n": 7}]

    async def test_many_rows(self, store: Store) -> None:
        """Thousands are one call."""
        await _ready(store)
        async with store.unit() as unit:
            assert await unit.statements.insert_many("stock", _COLUMNS, [(str(n), n) for n in range(20_000)]) == 20_000
            await unit.commit()
        assert await rows(store, "SELECT count(*) AS n, sum(n) AS total FROM stock") == [
            {"n": 20_000, "total": 199_990_000}
        ]

    async def test_a_store_without_sql_says_so(self, store: Store) -> None:
        """It names the setting that would give one."""
        if store.promises.runs_sql:
            pytest.skip("not promised: a store without SQL")
        async with store.unit() as unit:
            with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
                await unit.statements.insert_many("stock", _COLUMNS, [("a", 1)])


async def _ready(store: Store) -> None:
    needs(store.promises.runs_sql, "runs_sql")
    await store.migrate({**OWN, "0002_stock.sql": _STOCK})
