"""What a store's adapter must keep. In a test module, with a fixture `backend` that returns a `StoreBackend`:

```python
class TestInbox(InboxConformance): ...


class TestOutbox(OutboxConformance): ...


class TestReplays(ReplayConformance): ...  # these three from `store_outbox`


class TestReadingAhead(ReadAheadConformance): ...


class TestHints(HintsConformance): ...


class TestParking(ParkingConformance): ...  # these two from `store_parking`


class TestParkedQueries(ParkedQueryConformance): ...


class TestLeases(LeaseConformance): ...


class TestLife(LifeConformance): ...  # and these from `store_sql`


class TestMigrations(MigrationConformance): ...


class TestStatements(StatementConformance): ...


class TestInserts(InsertConformance): ...  # from `store_insert`


class TestSessions(SessionConformance): ...
```

The tests are async functions for anyio's pytest plugin in its auto mode. What the adapter does not promise is skipped.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import pytest

from torpor.kernel.errors import LeaseLost
from torpor.kernel.message import Message, ParkedMessage
from torpor.kernel.parked import ParkedQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from torpor.ports.outbox import LogEntry
    from torpor.ports.store import Store

DEADLINE = 20.0  # seconds: no promise of speed, only the end of waiting in vain
FAR_FUTURE = 1e12
NOTE = "CREATE TABLE note (id TEXT PRIMARY KEY, body TEXT, amount BIGINT NOT NULL DEFAULT 0, data BYTEA)"
OWN = {"0001_note.sql": NOTE}


class StoreBackend(Protocol):
    """What an adapter's test module gives: stores on one database, which is new and empty in each test."""

    def store(self) -> Store:
        """Another store on the database, not started: another process, as it were."""
        ...


class StoreSuite:
    """What the suites share: a migrated, started store."""

    @pytest.fixture
    async def store(self, backend: StoreBackend) -> AsyncIterator[Store]:
        """A started store with a table `note` of the service's own, stopped after the test."""
        store = backend.store()
        await store.migrate(OWN)
        await store.start()
        yield store
        await store.stop()


class InboxConformance(StoreSuite):
    """Admission: each id once for each binding, and the keys that are blocked."""

    async def test_an_id_is_new_once_for_a_binding(self, store: Store) -> None:
        """A committed id is told as new the first time, and never again."""
        needs(store.promises.is_transactional, "is_transactional")
        assert await admitted(store, "b", ["1", "2"]) == {"1", "2"}
        assert await admitted(store, "b", ["2"]) == set()
        assert await admitted(store, "b", ["1", "2", "3"]) == {"3"}

    async def test_bindings_are_independent(self, store: Store) -> None:
        """Each binding has an inbox of its own."""
        needs(store.promises.is_transactional, "is_transactional")
        assert await admitted(store, "b", ["1"]) == {"1"}
        assert await admitted(store, "c", ["1"]) == {"1"}

    async def test_an_id_twice_in_a_batch_is_one_id(self, store: Store) -> None:
        """A batch may hold an id twice; it is told as new, and known from then on."""
        needs(store.promises.is_transactional, "is_transactional")
        assert await admitted(store, "b", ["1", "2", "1"]) == {"1", "2"}
        assert await admitted(store, "b", ["1", "1"]) == set()

    async def test_a_large_batch_with_known_ids_among_new_ones(self, store: Store) -> None:
        """However large the batch, exactly the new ids are told."""
        needs(store.promises.is_transactional, "is_transactional")
        everything = [str(number) for number in range(1000)]
        await admitted(store, "b", everything[::3])

        assert await admitted(store, "b", everything) == set(everything) - set(everything[::3])

    async def test_an_empty_batch_admits_nothing(self, store: Store) -> None:
        """No messages, no ids."""
        assert await admitted(store, "b", []) == set()

    async def test_a_unit_sees_its_own_admissions(self, store: Store) -> None:
        """An id that the unit itself has admitted is not new any more."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.admit("b", [message("1")])
            assert set((await unit.admit("b", [message("1"), message("2")])).fresh) == {"2"}

    async def test_leaving_without_a_commit_takes_admissions_back(self, store: Store) -> None:
        """An id whose unit was not committed, or failed, is new again."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.admit("b", [message("1")])
        with suppress(ZeroDivisionError):
            async with store.unit() as unit:
                await unit.admit("b", [message("2")])
                _ = 1 / 0

        assert await admitted(store, "b", ["1", "2"]) == {"1", "2"}

    async def test_falling_back_to_the_savepoint_takes_admissions_back(self, store: Store) -> None:
        """An id that was admitted after the savepoint is new again; one from before it is not."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.admit("b", [message("1")])
            await unit.savepoint()
            await unit.admit("b", [message("2")])
            await unit.rollback_to_savepoint()
            assert set((await unit.admit("b", [message("1"), message("2")])).fresh) == {"2"}

    async def test_of_two_units_at_once_one_is_told_that_an_id_is_new(self, store: Store) -> None:
        """The same delivery in two units side by side has its effect once."""
        needs(store.promises.is_transactional, "is_transactional")
        ids = [str(number) for number in range(20)]
        async with asyncio.timeout(DEADLINE):
            told = await asyncio.gather(*(admitted(store, "b", ids) for _ in range(8)))

        assert sorted(id for fresh in told for id in fresh) == sorted(ids)

    async def test_a_key_is_blocked_while_the_binding_has_it_parked(self, store: Store) -> None:
        """Exactly those keys of the batch are blocked that the same binding has parked."""
        needs(store.promises.is_transactional, "is_transactional")
        await committed(store, parked=[parked("b", "1", key="k"), parked("b", "2"), parked("c", "3", key="l")])

        async with store.unit() as unit:
            batch = [message(str(n), key=key) for n, key in enumerate(["k", "l", None, "k", "m", ""], start=10)]
            admission = await unit.admit("b", batch)
            alone = await unit.admit("b", [message("20", key="k")])

        assert set(admission.blocked) == {"k"}
        assert set(alone.blocked) == {"k"}

    async def test_a_row_stands_in_the_queue_that_it_was_given(self, store: Store) -> None:
        """A parked row holds up its queue, whatever its key is; one without a queue holds up nothing."""
        needs(store.promises.is_transactional, "is_transactional")
        first, second, free = (
            parked("b", "1", key="k"),
            parked("b", "2", due_at=0.0),
            parked("b", "3", key="l", due_at=0.0),
        )
        first.queue = second.queue = "*"
        free.queue = None
        await committed(store, parked=[first, second, free])

        async with store.unit() as unit:
            by_key = await unit.admit("b", [message("10", key="k"), message("11", key="l")])
            named = await unit.admit("b", [message("12", key="m")], "*")
            other = await unit.admit("c", [message("13", key="k")], "*")

        assert (set(by_key.blocked), set(named.blocked), set(other.blocked)) == (set(), {"*"}, set())
        assert await due_ids(store, 1.0) == ["3"]
        numbers = [row.number for row in await store.parking.list() if row.message.id == "1"]
        assert await store.parking.discard(ParkedQuery(numbers=numbers))
        assert await due_ids(store, 1.0) == ["2", "3"]

    async def test_a_key_that_the_unit_has_parked_itself_is_blocked(self, store: Store) -> None:
        """A unit sees its own parked messages."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.append([], [parked("b", "1", key="k")])
            assert set((await unit.admit("b", [message("2", key="k")])).blocked) == {"k"}


class OutboxConformance(StoreSuite):
    """The log of messages to publish, and the transaction around it."""

    @pytest.mark.parametrize("key", [None, "", "order-1", "clé № 1 %"])
    @pytest.mark.parametrize(
        "data",
        [b"", b'{"a": 1}', b"\x00 NUL \x00", bytes(range(256)), b"x" * 3_000_000],
        ids=lambda data: str(len(data)),
    )
    async def test_a_message_comes_back_whole(self, store: Store, data: bytes, key: str | None) -> None:
        """Topic, id, type, key, attributes and payload are read as they were appended."""
        needs(store.promises.is_transactional, "is_transactional")
        attributes = {"source": "/s", "subject": "a\x00b \n'\" ключ 🐦 \u202e", "empty": ""}
        sent = Message("orders.placed", data, id="№ 1", type="ty'pe", key=key, attributes=attributes)

        await committed(store, sent, message("2"))

        entries = await store.outbox.pending(10)
        assert [entry.message for entry in entries] == [sent, message("2")]

    @pytest.mark.parametrize("odd", ["plain", "a\x00b", "\x1a;\x1a0", "é'\\\"\n"])
    async def test_each_of_many_comes_back_whole(self, store: Store, odd: str) -> None:
        """What is appended together is read as it was, each with its own key, type and attributes, or with those that
        it shares with the one before."""
        needs(store.promises.is_transactional, "is_transactional")
        shared, other = {"source": "/s", "subject": odd}, {"source": odd}
        sent = [
            Message(
                odd if number % 5 == 4 else "t",
                b"%d" % number,
                id=f"{odd}{number}",
                type=odd if number % 7 == 6 else "y",
                key=(None, "", odd, f"key-{number}")[number % 4],
                attributes=(shared, shared, other)[number % 3],
            )
            for number in range(40)
        ]

        await committed(store, *sent)

        found = {entry.message.id: entry.message for entry in await store.outbox.pending(100)}
        assert found == {message.id: message for message in sent}

    async def test_positions_follow_the_order_of_appending(self, store: Store) -> None:
        """Within a shard positions rise, within a unit and from unit to unit, and pending reads in their order."""
        needs(store.promises.is_transactional, "is_transactional")
        ids = [str(number) for number in range(450)]
        for start in range(0, 450, 150):
            await committed(store, *(message(id, key="k") for id in ids[start : start + 150]))

        entries = await store.outbox.pending(1000)
        assert [entry.message.id for entry in entries] == ids
        positions = [entry.position for entry in entries]
        assert positions == sorted(set(positions))

    async def test_nothing_is_pending_before_its_commit(self, store: Store) -> None:
        """Whoever reads while a unit is open never sees what it then takes back."""
        needs(store.promises.is_transactional, "is_transactional")
        async with asyncio.timeout(DEADLINE):
            async with store.unit() as unit:
                await unit.append([message("1")], [parked("b", "2")])
                reading = asyncio.gather(store.outbox.pending(10), store.parking.list())
                for _ in range(5):
                    await asyncio.sleep(0)
            assert [list(rows) for rows in await reading] == [[], []]

    async def test_units_side_by_side_keep_the_order_of_each_key(self, store: Store) -> None:
        """Many units at once: all rows are there, and each unit's rows of a key keep their order."""
        needs(store.promises.is_transactional, "is_transactional")

        async def one(unit_number: int) -> None:
            await committed(store, *(message(f"{unit_number}.{n}", key=str(unit_number)) for n in range(5)))

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(one(unit_number) for unit_number in range(20)))

        ids = [entry.message.id for entry in await store.outbox.pending(1000)]
        assert len(ids) == 100
        for unit_number in range(20):
            mine = [id for id in ids if id.startswith(f"{unit_number}.")]
            assert mine == [f"{unit_number}.{n}" for n in range(5)]

    async def test_pending_reads_past_the_cursors(self, store: Store) -> None:
        """Pending gives no more than its limit, and after an advance what comes behind it."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, *(message(str(number), key="k") for number in range(5)))

        first = await store.outbox.pending(2)
        assert [entry.message.id for entry in first] == ["0", "1"]
        assert [entry.message.id for entry in await store.outbox.pending(2)] == ["0", "1"]

        await store.outbox.advance(last_of(first), epoch)
        assert [entry.message.id for entry in await store.outbox.pending(10)] == ["2", "3", "4"]

    async def test_cursors_never_go_back(self, store: Store) -> None:
        """An advance to an earlier position changes nothing."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, *(message(str(number), key="k") for number in range(3)))
        entries = await store.outbox.pending(10)

        await store.outbox.advance(last_of(entries), epoch)
        await store.outbox.advance(last_of(entries[:1]), epoch)

        assert await pending_ids(store) == []

    async def test_an_old_epoch_moves_no_cursor(self, store: Store) -> None:
        """Once another holds the relay's lease, or nobody ever did, an advance is refused and changes nothing."""
        needs(store.promises.is_transactional, "is_transactional")
        await committed(store, message("1"))
        entries = await store.outbox.pending(10)
        with pytest.raises(LeaseLost):
            await store.outbox.advance(last_of(entries), 1)
        old = await store.leases.acquire("keeper", "one", 0)
        assert old is not None
        new = await store.leases.acquire("keeper", "another", 60)
        assert new is not None

        with pytest.raises(LeaseLost):
            await store.outbox.advance(last_of(entries), old)
        assert await pending_ids(store) == ["1"]

        await store.outbox.advance(last_of(entries), new)
        assert await pending_ids(store) == []

    async def test_trimming_removes_what_was_published_and_the_old_inbox(self, store: Store) -> None:
        """Rows older than the time go, once published; unpublished rows stay, and a trimmed id is new again."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await admitted(store, "b", ["1", "2"])
        await committed(store, *(message(str(number), key="k") for number in range(3)))
        await store.outbox.advance(last_of((await store.outbox.pending(10))[:2]), epoch)

        await store.outbox.trim(published=0, admitted=0)
        assert (await store.outbox.state()).kept == 3
        assert await admitted(store, "b", ["1"]) == set()
        await store.outbox.trim(published=FAR_FUTURE, admitted=0)
        assert await admitted(store, "b", ["1"]) == set()
        assert await pending_ids(store) == ["2"]
        await store.outbox.advance(last_of(await store.outbox.pending(10)), epoch)
        await store.outbox.trim(published=FAR_FUTURE, admitted=FAR_FUTURE)

        assert (await store.outbox.state()).kept == 0
        assert await admitted(store, "b", ["1", "2"]) == {"1", "2"}

    async def test_what_comes_after_a_trim_is_pending(self, store: Store) -> None:
        """Even when the whole log was trimmed, new rows are behind the cursor."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, message("1"), message("2"))
        await store.outbox.advance(last_of(await store.outbox.pending(10)), epoch)
        await store.outbox.trim(published=FAR_FUTURE, admitted=FAR_FUTURE)

        await committed(store, message("3"))

        assert await pending_ids(store) == ["3"]

    async def test_the_savepoint_takes_back_what_came_after_it(self, store: Store) -> None:
        """Outbox, parked rows and claims of after the mark are taken back; the mark stays, and can be moved."""
        needs(store.promises.is_transactional, "is_transactional")
        (number,) = await numbers_of(store, parked("b", "0", due_at=1))
        async with store.unit() as unit:
            await unit.append([message("1")], [])
            await unit.savepoint()
            for attempt in ("a", "b"):
                await unit.append([message(attempt)], [parked("b", attempt)])
                assert await unit.claim(number)
                await unit.rollback_to_savepoint()
            await unit.append([message("2")], [])
            await unit.savepoint()
            await unit.append([message("c")], [])
            await unit.rollback_to_savepoint()
            await unit.append([message("3")], [])
            await unit.commit()

        assert await pending_ids(store) == ["1", "2", "3"]
        assert [row.message.id for row in await store.parking.list()] == ["0"]

    async def test_a_unit_without_a_commit_leaves_nothing(self, store: Store) -> None:
        """Leaving the unit takes everything back, with an exception or without, and the next unit works."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.append([message("1")], [parked("b", "2")])
        with suppress(ZeroDivisionError):
            async with store.unit() as unit:
                await unit.append([message("1")], [parked("b", "2")])
                _ = 1 / 0
        async with store.unit() as unit:
            await unit.commit()

        assert await pending_ids(store) == []
        assert await store.parking.list() == []
        await committed(store, message("3"))
        assert await pending_ids(store) == ["3"]


def needs(is_promised: bool, name: str) -> None:  # noqa: FBT001  # reads as a sentence: needs(promises.x, "x")
    """Skips a test of what the adapter does not promise."""
    if not is_promised:
        pytest.skip(f"not promised: {name}")


def message(id: str, *, key: str | None = None) -> Message:
    """A message with an id."""
    return Message("t", b"{}", id=id, type="y", key=key, attributes={"source": "/conformance"})


def parked(binding: str, id: str, *, key: str | None = None, due_at: float | None = None) -> ParkedMessage:
    """A message set aside."""
    return ParkedMessage(binding, message(id, key=key), reason="broken", at=1.0, attempts=1, due_at=due_at)


async def admitted(store: Store, binding: str, ids: Iterable[str]) -> set[str]:
    """Admits ids in a unit of their own; returns those that were new."""
    async with store.unit() as unit:
        admission = await unit.admit(binding, [message(id) for id in ids])
        await unit.commit()
    return set(admission.fresh)


async def committed(store: Store, *messages: Message, parked: Sequence[ParkedMessage] = ()) -> None:
    """Appends in a unit of their own."""
    async with store.unit() as unit:
        await unit.append(messages, parked)
        await unit.commit()


async def claimed(store: Store, number: int) -> bool:
    """Claims a row in a unit of its own."""
    async with store.unit() as unit:
        is_mine = await unit.claim(number)
        await unit.commit()
    return is_mine


async def numbers_of(store: Store, *rows: ParkedMessage) -> list[int]:
    """Parks rows; returns their numbers."""
    await committed(store, parked=rows)
    return [row.number for row in await store.parking.list()]


async def pending_ids(store: Store) -> list[str]:
    """The ids of what is to be published."""
    return [entry.message.id for entry in await store.outbox.pending(1000)]


async def due_ids(store: Store, now: float, *, limit: int = 100) -> list[str]:
    """The ids of what is due, in order of their number."""
    rows = await store.parking.due(now, limit)
    return [row.message.id for row in sorted(rows, key=lambda row: row.number)]


async def relay_lease(store: Store) -> int:
    """The epoch of the relay's lease, taken for the test."""
    epoch = await store.leases.acquire("keeper", "conformance", 60)
    assert epoch is not None
    return epoch


def last_of(entries: Sequence[LogEntry]) -> dict[int, int]:
    """The highest position of each shard."""
    return {entry.shard: entry.position for entry in entries}
