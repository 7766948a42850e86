"""The store's own life, and the SQL that services run on it. See `torpor.testing.conformance.store`."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from torpor.kernel.errors import SchemaMismatch, StatementFailed, StoreUnavailable
from torpor.testing.conformance.store import (
    DEADLINE,
    NOTE,
    OWN,
    StoreSuite,
    admitted,
    committed,
    last_of,
    message,
    needs,
    parked,
    pending_ids,
    relay_lease,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.ports.store import Store
    from torpor.ports.unit import Unit
    from torpor.testing.conformance.store import StoreBackend


class LifeConformance(StoreSuite):
    """Starting, stopping, and what outlives it."""

    async def test_starting_and_stopping_can_be_repeated(self, store: Store) -> None:
        """A started store answers a ping; stopping twice is no mistake."""
        await store.start()
        await store.ping()
        await store.stop()
        await store.stop()

    async def test_a_store_that_has_stopped_is_unavailable(self, store: Store) -> None:
        """A unit cannot be opened before the start or after the stop, and everything else is refused too."""
        needs(store.promises.is_transactional, "is_transactional")
        await store.stop()

        with pytest.raises(StoreUnavailable):
            async with store.unit() as unit:
                await unit.admit("b", [message("1")])
        for call in (store.ping, store.parking.count, lambda: store.outbox.pending(1)):
            with pytest.raises(StoreUnavailable):
                await call()

    async def test_stopping_rolls_back_a_unit_under_way(self, store: Store) -> None:
        """A unit that is open when the store stops does nothing more, and leaves nothing."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.append([message("1")], [])
            await store.stop()
            with pytest.raises((StoreUnavailable, StatementFailed)):
                await unit.append([message("2")], [])
            with pytest.raises((StoreUnavailable, StatementFailed)):
                await unit.commit()

        await store.migrate(OWN)
        await store.start()
        assert await pending_ids(store) == []

    async def test_what_was_committed_outlives_the_store(self, store: Store, backend: StoreBackend) -> None:
        """Inbox, outbox, cursors, parked rows and leases are there for the next process."""
        needs(store.promises.is_durable, "is_durable")
        epoch = await relay_lease(store)
        await admitted(store, "b", ["1"])
        await committed(store, message("1"), message("2"), parked=[parked("b", "3", key="k")])
        await store.outbox.advance(last_of((await store.outbox.pending(10))[:1]), epoch)
        await store.stop()

        another = backend.store()
        await another.start()
        try:
            assert await pending_ids(another) == ["2"]
            assert await admitted(another, "b", ["1", "4"]) == {"4"}
            assert [row.message.id for row in await another.parking.list()] == ["3"]
            assert await another.leases.acquire("keeper", "another", 60) is None
        finally:
            await another.stop()


class MigrationConformance(StoreSuite):
    """The tables: made once, in order, and refused when they do not fit."""

    # What a newer version of the framework would have left behind.
    newer: ClassVar[str] = "INSERT INTO torpor_migration (name, checksum) VALUES ('torpor/9999_later.sql', 'x')"

    async def test_migrations_are_applied_once_and_in_order(self, backend: StoreBackend) -> None:
        """The framework's come first, then the service's by name; a repeated call applies nothing."""
        store = backend.store()
        needs(store.promises.runs_sql, "runs_sql")
        own = {
            "0002_fill.sql": "INSERT INTO note (id, body) VALUES ('1', 'semi;colon -- no comment');\n-- the end;\n",
            "0001_note.sql": f"-- The notes; all of them.\n{NOTE};\nCREATE INDEX note_body ON note (body)",
        }
        try:
            applied = list(await store.migrate(own))
            assert applied[-2:] == ["0001_note.sql", "0002_fill.sql"]
            assert len(applied) > 2
            assert list(await store.migrate(own)) == []

            more = {**own, "0003_more.sql": "UPDATE note SET amount = amount + 1"}
            assert list(await store.migrate(more)) == ["0003_more.sql"]
            assert list(await store.migrate(more)) == []
            await store.start()
            assert await rows(store, "SELECT body, amount FROM note") == [
                {"body": "semi;colon -- no comment", "amount": 1}
            ]
        finally:
            await store.stop()

    async def test_a_migration_for_another_database_is_left_out(self, backend: StoreBackend) -> None:
        """Of `.sqlite.sql` and `.postgres.sql` one is applied."""
        store = backend.store()
        needs(store.promises.runs_sql, "runs_sql")
        own = {f"0001_note.{dialect}.sql": NOTE for dialect in ("postgres", "sqlite")}

        applied = await store.migrate(own)
        await store.stop()

        assert len([name for name in applied if name in own]) == 1

    async def test_starting_before_migrating_is_told(self, backend: StoreBackend) -> None:
        """A database without tables is a SchemaMismatch that says to migrate."""
        store = backend.store()
        needs(store.promises.runs_sql, "runs_sql")
        with pytest.raises(SchemaMismatch, match="torpor migrate"):
            await store.start()

        await store.migrate({})
        await store.start()
        await store.stop()

    async def test_newer_tables_are_refused(self, store: Store, backend: StoreBackend) -> None:
        """What a newer version has migrated, this one neither opens nor migrates."""
        needs(store.promises.is_durable and store.promises.runs_sql, "is_durable and runs_sql")
        async with store.unit() as unit:
            await run(unit, self.newer)
            await unit.commit()
        await store.stop()

        another = backend.store()
        for call in (another.start, lambda: another.migrate({})):
            with pytest.raises(SchemaMismatch, match="9999_later"):
                await call()

    async def test_an_edited_migration_is_refused(self, store: Store) -> None:
        """A migration whose text has changed since it was applied is named."""
        needs(store.promises.runs_sql, "runs_sql")
        with pytest.raises(SchemaMismatch, match=r"0001_note\.sql"):
            await store.migrate({"0001_note.sql": f"{NOTE};"})

        assert list(await store.migrate({"0001_note.sql": NOTE})) == []

    async def test_a_broken_migration_leaves_nothing(self, store: Store) -> None:
        """A migration is applied whole or not at all, and the one that broke is named."""
        needs(store.promises.runs_sql, "runs_sql")
        broken = {**OWN, "0002_broken.sql": "CREATE TABLE other (id TEXT);\nCREATE TABEL mistake (id TEXT);"}
        with pytest.raises(StatementFailed, match=r"(?s)0002_broken\.sql.*TABEL"):
            await store.migrate(broken)

        mended = {**OWN, "0002_broken.sql": "CREATE TABLE other (id TEXT);"}
        assert list(await store.migrate(mended)) == ["0002_broken.sql"]

    async def test_two_may_migrate_at_once(self, backend: StoreBackend) -> None:
        """Each migration is applied by one of those who try at the same time, and all of them succeed."""
        stores = [backend.store() for _ in range(4)]
        needs(stores[0].promises.is_durable and stores[0].promises.runs_sql, "is_durable and runs_sql")
        own = {**OWN, "0002_more.sql": "INSERT INTO note (id) VALUES ('1')"}
        async with asyncio.timeout(DEADLINE):
            applied = await asyncio.gather(*(store.migrate(own) for store in stores))

        names = [name for one in applied for name in one]
        assert len(names) == len(set(names))
        assert {"0001_note.sql", "0002_more.sql"} < set(names)


class StatementConformance(StoreSuite):
    """A handler's own SQL."""

    async def test_without_sql_statements_say_what_to_configure(self, store: Store) -> None:
        """A store that runs no SQL tells so, with the setting that would change it."""
        if store.promises.runs_sql:
            pytest.skip("not promised: a store without SQL")
        async with store.unit() as unit:
            with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
                await run(unit, "SELECT 1")
            with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
                await unit.statements.fetch("SELECT 1", ())
            with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
                await unit.statements.execute_many("SELECT 1", [()])
            with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
                unit.statements.session()

    async def test_statements_tell_how_many_rows_they_changed(self, store: Store) -> None:
        """INSERT, UPDATE and DELETE tell the number of rows, zero included."""
        needs(store.promises.runs_sql, "runs_sql")
        async with store.unit() as unit:
            assert await run(unit, "INSERT INTO note (id) VALUES ($1), ($2)", "1", "2") == 2
            assert await run(unit, "INSERT INTO note (id) VALUES ($1) RETURNING id", "3") == 1
            assert await run(unit, "UPDATE note SET amount = 1") == 3
            assert await run(unit, "UPDATE note SET amount = 2 WHERE id = $1", "9") == 0
            assert await run(unit, "DELETE FROM note WHERE id <> $1", "1") == 2

    async def test_rows_come_by_column_name(self, store: Store) -> None:
        """A query's rows are dictionaries; a query without rows gives an empty list; RETURNING is a query too."""
        needs(store.promises.runs_sql, "runs_sql")
        async with store.unit() as unit:
            insert = "INSERT INTO note (id, body) VALUES ($1, $2) RETURNING id"
            assert await unit.statements.fetch(insert, ("1", "x")) == [{"id": "1"}]
            fetched = await unit.statements.fetch("SELECT id, body AS text, amount + 1 AS more FROM note", ())
            assert fetched == [{"id": "1", "text": "x", "more": 1}]
            assert await unit.statements.fetch("SELECT id FROM note WHERE id = $1", ("9",)) == []

    @pytest.mark.parametrize(
        ("statement", "parameters", "expected"),
        [
            ("INSERT INTO note (id, body) VALUES ($2, $1)", ("a", "b"), ("b", "a")),
            ("INSERT INTO note (id, body) VALUES ($1, $1)", ("a",), ("a", "a")),
            ("INSERT INTO note (id, body) VALUES ('$1', $1)", ("a",), ("$1", "a")),
            ("INSERT INTO note (id, body) VALUES ('it''s $2', $1) -- $3", ("a",), ("it's $2", "a")),
            ("INSERT INTO note (id, /* $4 '*/ \"body\") VALUES ('$1''', $1)", ("a",), ("$1'", "a")),
            ("INSERT INTO note (id, body) VALUES ('cost: 5$', $1)", ("a",), ("cost: 5$", "a")),
        ],
    )
    async def test_parameters_are_numbered(
        self, store: Store, statement: str, parameters: Sequence[object], expected: tuple[str, str]
    ) -> None:
        """A parameter may come twice or out of order; in literals, names and comments a dollar sign is itself."""
        needs(store.promises.runs_sql, "runs_sql")
        async with store.unit() as unit:
            await unit.statements.execute(statement, parameters)
            fetched = await unit.statements.fetch("SELECT id, body FROM note", ())
        assert fetched == [{"id": expected[0], "body": expected[1]}]

    @pytest.mark.parametrize(
        ("body", "amount", "data"),
        [
            ("", -(2**63), b""),
            ("ключ 🐦 \u202e \n ' \" \\ $1 %s", 2**63 - 1, bytes(range(256)) * 4),
            ("x" * 1_000_000, 0, b"\x00" * 1_000_000),
            (None, 1, None),
        ],
        ids=["empty", "odd", "long", "null"],
    )
    async def test_values_come_back_as_they_were(
        self, store: Store, body: str | None, amount: int, data: bytes | None
    ) -> None:
        """Text, integers, bytes and NULL are stored as they are."""
        needs(store.promises.runs_sql, "runs_sql")
        async with store.unit() as unit:
            insert = "INSERT INTO note (id, body, amount, data) VALUES ('1', $1, $2, $3)"
            assert await run(unit, insert, body, amount, data) == 1
            await unit.commit()
        found = await rows(store, "SELECT body, amount, data FROM note")
        assert found == [{"body": body, "amount": amount, "data": data}]

    async def test_a_refused_statement_tells_what_was_wrong(self, store: Store) -> None:
        """Syntax, names, constraints and parameters raise StatementFailed, with the statement and without values."""
        needs(store.promises.runs_sql, "runs_sql")
        refused: list[tuple[str, tuple[object, ...]]] = [
            ("SELEC $1", ("secret-value",)),
            ("SELECT * FROM nowhere WHERE id = $1", ("secret-value",)),
            ("INSERT INTO note (id, body) VALUES ('1', $1)", ("secret-value",)),
            ("UPDATE note SET amount = NULL WHERE id <> $1", ("secret-value",)),
            ("SELECT id FROM note WHERE id = $1", ("1", "secret-value")),
            ("INSERT INTO note (id, amount) VALUES ('2', $1)", (2**70,)),
        ]
        async with store.unit() as unit:
            await run(unit, "INSERT INTO note (id) VALUES ('1')")
            await unit.savepoint()
            for statement, parameters in refused:
                with pytest.raises(StatementFailed) as failure:
                    await unit.statements.execute(statement, parameters)
                assert statement in str(failure.value)
                assert "secret-value" not in str(failure.value)
                await unit.rollback_to_savepoint()
            with pytest.raises(StatementFailed):
                await unit.statements.fetch("SELECT * FROM nowhere", ())
            await unit.rollback_to_savepoint()
            await run(unit, "INSERT INTO note (id) VALUES ('3')")
            await unit.commit()

        assert await rows(store, "SELECT id FROM note ORDER BY id") == [{"id": "1"}, {"id": "3"}]

    async def test_many_rows_are_written_in_order(self, store: Store) -> None:
        """A statement runs for each row of parameters in turn; one refusal refuses the call."""
        needs(store.promises.runs_sql, "runs_sql")
        upsert = "INSERT INTO note (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = note.body || $2"
        async with store.unit() as unit:
            await unit.statements.execute_many(upsert, [("1", "a"), ("2", "x"), ("1", "b"), ("1", "c")])
            await unit.statements.execute_many(upsert, [])
            await unit.savepoint()
            with pytest.raises(StatementFailed):
                await unit.statements.execute_many("INSERT INTO note (id) VALUES ($1)", [("3",), ("3",)])
            await unit.rollback_to_savepoint()
            await unit.commit()

        assert await rows(store, "SELECT id, body FROM note ORDER BY id") == [
            {"id": "1", "body": "abc"},
            {"id": "2", "body": "x"},
        ]

    async def test_statements_share_the_units_fate(self, store: Store) -> None:
        """A unit sees its own rows; the savepoint takes back those after it, and without a commit all are gone."""
        needs(store.promises.runs_sql, "runs_sql")
        async with store.unit() as unit:
            await run(unit, "INSERT INTO note (id) VALUES ('lost')")
        async with store.unit() as unit:
            await unit.admit("b", [message("1")])
            await run(unit, "INSERT INTO note (id) VALUES ('before')")
            await unit.savepoint()
            await run(unit, "INSERT INTO note (id) VALUES ('after')")
            assert await unit.statements.fetch("SELECT count(*) AS n FROM note", ()) == [{"n": 2}]
            await unit.rollback_to_savepoint()
            await unit.append([message("2")], [])
            await unit.commit()

        assert await rows(store, "SELECT id FROM note") == [{"id": "before"}]
        assert await admitted(store, "b", ["1"]) == set()
        assert await pending_ids(store) == ["2"]

    async def test_units_side_by_side_lose_no_update(self, store: Store) -> None:
        """Many units that change the same row at once all have their effect."""
        needs(store.promises.runs_sql, "runs_sql")
        async with store.unit() as unit:
            await run(unit, "INSERT INTO note (id) VALUES ('1')")
            await unit.commit()

        async def add() -> None:
            async with store.unit() as unit:
                await run(unit, "UPDATE note SET amount = amount + 1 WHERE id = '1'")
                await asyncio.sleep(0)
                await run(unit, "UPDATE note SET amount = amount + 1 WHERE id = '1'")
                await unit.commit()

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(add() for _ in range(20)))
        assert await rows(store, "SELECT amount FROM note") == [{"amount": 40}]


class SessionConformance(StoreSuite):
    """SQLModel sessions inside the unit."""

    @pytest.fixture
    def note(self, store: Store) -> Any:
        """The model of the table `note`."""
        needs(store.promises.runs_sql, "runs_sql")
        pytest.importorskip("sqlmodel", reason="sqlmodel is not installed")
        return note_model()

    async def test_a_session_shares_the_units_transaction(self, store: Store, note: Any) -> None:
        """What it has flushed the unit's statements see, and it sees what they did; all is committed together."""
        from sqlmodel import select

        async with store.unit() as unit:
            await run(unit, "INSERT INTO note (id, body) VALUES ('1', 'by statement')")
            session = unit.statements.session()
            session.add(note(id="2", body="by session"))
            await session.flush()
            assert await unit.statements.fetch("SELECT id FROM note ORDER BY id", ()) == [{"id": "1"}, {"id": "2"}]
            found = (await session.exec(select(note).order_by(note.id))).all()
            assert [row.body for row in found] == ["by statement", "by session"]
            found[0].body = "changed"
            await unit.append([message("1")], [])
            await unit.commit()

        bodies = [row["body"] for row in await rows(store, "SELECT body FROM note ORDER BY id")]
        assert bodies == ["changed", "by session"]
        assert await pending_ids(store) == ["1"]

    async def test_a_session_may_be_the_first_to_speak(self, store: Store, note: Any) -> None:
        """A unit that has done nothing yet begins with its session, and units do so side by side."""

        async def add(id: str) -> None:
            async with store.unit() as unit:
                session = unit.statements.session()
                assert await session.get(note, id) is None
                session.add(note(id=id))
                await session.flush()
                await asyncio.sleep(0)
                assert (await session.get(note, id)).id == id
                await unit.commit()

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(add(str(number)) for number in range(10)))
        assert await rows(store, "SELECT count(*) AS n FROM note") == [{"n": 10}]

    async def test_the_unit_sends_what_a_session_holds_back(self, store: Store, note: Any) -> None:
        """The commit of the unit flushes its sessions, and the objects stay readable afterwards."""
        async with store.unit() as unit:
            row = note(id="1", body="x")
            unit.statements.session().add(row)
            await unit.commit()

        assert row.body == "x"
        assert await rows(store, "SELECT id FROM note") == [{"id": "1"}]

    async def test_a_closed_session_leaves_to_the_unit_what_it_has_sent(self, store: Store, note: Any) -> None:
        """A handler's session is flushed and closed before the unit commits, and the next handler has another."""
        async with store.unit() as unit:
            for id in ("1", "2", "3"):
                session = unit.statements.session()
                session.add(note(id=id))
                await session.flush()
                await session.close()
            await unit.commit()

        assert await rows(store, "SELECT count(*) AS n FROM note") == [{"n": 3}]

    async def test_a_sessions_commit_commits_nothing_by_itself(self, store: Store, note: Any) -> None:
        """After `session.commit()` the unit can still take everything back."""
        async with store.unit() as unit:
            session = unit.statements.session()
            session.add(note(id="1"))
            await session.commit()
            assert await unit.statements.fetch("SELECT id FROM note", ()) == [{"id": "1"}]

        assert await rows(store, "SELECT id FROM note") == []

    async def test_a_sessions_rollback_takes_back_its_own_work(self, store: Store, note: Any) -> None:
        """What the unit did before the session began stays."""
        async with store.unit() as unit:
            await unit.append([message("1")], [])
            await run(unit, "INSERT INTO note (id) VALUES ('1')")
            session = unit.statements.session()
            session.add(note(id="2"))
            await session.flush()
            await session.rollback()
            session.add(note(id="3"))
            await unit.commit()

        assert await rows(store, "SELECT id FROM note ORDER BY id") == [{"id": "1"}, {"id": "3"}]
        assert await pending_ids(store) == ["1"]

    async def test_the_savepoint_takes_a_sessions_work_back(self, store: Store, note: Any) -> None:
        """Falling back takes back what sessions sent after the mark, and keeps what they held back before it."""
        async with store.unit() as unit:
            unit.statements.session().add(note(id="before"))
            await unit.savepoint()
            for id in ("after", "again"):
                session = unit.statements.session()
                session.add(note(id=id))
                await session.flush()
                await unit.rollback_to_savepoint()
            unit.statements.session().add(note(id="last"))
            await unit.commit()

        assert await rows(store, "SELECT id FROM note ORDER BY id") == [{"id": "before"}, {"id": "last"}]

    async def test_a_sessions_failure_is_sqlalchemys_own(self, store: Store, note: Any) -> None:
        """A handler may catch what its flush raises, roll its session back and go on; no parameter is told."""
        from sqlalchemy.exc import IntegrityError

        async with store.unit() as unit:
            await run(unit, "INSERT INTO note (id) VALUES ('1')")
            session = unit.statements.session()
            session.add(note(id="1", body="secret-value"))
            with pytest.raises(IntegrityError) as failure:
                await session.flush()
            assert "secret-value" not in str(failure.value)
            await session.rollback()
            session.add(note(id="2"))
            await unit.commit()

        assert await rows(store, "SELECT id FROM note ORDER BY id") == [{"id": "1"}, {"id": "2"}]

    async def test_what_the_commit_cannot_send_fails_the_unit(self, store: Store, note: Any) -> None:
        """When a session's held back changes are refused at the commit, nothing of the unit is kept."""
        async with store.unit() as unit:
            await run(unit, "INSERT INTO note (id) VALUES ('1')")
            unit.statements.session().add(note(id="1"))
            with pytest.raises(StatementFailed):
                await unit.commit()

        assert await rows(store, "SELECT id FROM note") == []


@cache
def note_model() -> Any:
    """A SQLModel class for the table that the suite's migration makes."""
    from sqlalchemy import MetaData
    from sqlmodel import Field, SQLModel

    class ConformanceNote(SQLModel, table=True):
        __tablename__ = "note"
        metadata: ClassVar[MetaData] = MetaData()  # beside a table of the user's own that has this name

        id: str = Field(primary_key=True)
        body: str | None = None
        amount: int = 0

    return ConformanceNote


async def run(unit: Unit, statement: str, *parameters: object) -> int:
    """Executes a statement of a handler's own."""
    return await unit.statements.execute(statement, parameters)


async def rows(store: Store, query: str) -> list[dict[str, Any]]:
    """What a query finds in a unit of its own."""
    async with store.unit() as unit:
        return await unit.statements.fetch(query, ())
