"""The messages set aside: their order, and what an operator does with them. See `torpor.testing.conformance.store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from torpor.kernel.errors import StatementFailed
from torpor.kernel.message import Message, ParkedMessage
from torpor.kernel.parked import ParkedQuery
from torpor.testing.conformance.store import (
    DEADLINE,
    StoreSuite,
    claimed,
    committed,
    due_ids,
    message,
    needs,
    numbers_of,
    parked,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.ports.store import Store

_MANY = 2300  # more than one transaction changes


class ParkingConformance(StoreSuite):
    """The messages set aside: their order, and who may take them."""

    async def test_a_parked_message_comes_back_whole(self, store: Store) -> None:
        """Every field is read as it was parked, and the numbers rise."""
        needs(store.promises.is_transactional, "is_transactional")
        attributes = {"source": "/s", "subject": 'é " \n'}
        whole = Message("t", b"\x00\xff", id="1", type="y", key="k", attributes=attributes)
        row = ParkedMessage("b", whole, reason="bad 'é'\nline", at=12.5, attempts=3, due_at=77.25)

        await committed(store, parked=[row, parked("b", "2")])

        first, second = await store.parking.list()
        assert first.message == whole
        assert (first.binding, first.reason, first.at, first.attempts, first.due_at) == (
            "b",
            "bad 'é'\nline",
            12.5,
            3,
            77.25,
        )
        assert 0 < first.number < second.number
        assert (second.due_at, second.message.key, second.state) == (None, None, "parked")

    async def test_a_row_is_due_once_its_time_has_come(self, store: Store) -> None:
        """Rows with a later time are not due, and those that an operator holds never are."""
        needs(store.promises.is_transactional, "is_transactional")
        await committed(store, parked=[parked("b", "1", due_at=100), parked("b", "2", due_at=200), parked("b", "3")])

        assert await due_ids(store, 99) == []
        assert await due_ids(store, 100) == ["1"]
        assert await due_ids(store, 1000) == ["1", "2"]
        assert await due_ids(store, 1000, limit=1) == ["1"]

    async def test_only_the_first_of_a_key_is_due(self, store: Store) -> None:
        """Rows wait behind the first of their key in their binding; rows without a key wait for none."""
        needs(store.promises.is_transactional, "is_transactional")
        rows = [
            parked("b", "held", key="k"),
            parked("b", "waits", key="k", due_at=0),
            parked("b", "later", key="l", due_at=500),
            parked("b", "behind", key="l", due_at=0),
            parked("c", "other binding", key="k", due_at=10),
            parked("b", "free", due_at=10),
            parked("b", "free too", due_at=0),
            parked("b", "empty key", key="", due_at=10),
        ]
        await committed(store, parked=rows)

        assert await due_ids(store, 100) == ["other binding", "free", "free too", "empty key"]
        assert await due_ids(store, 500) == ["later", "other binding", "free", "free too", "empty key"]

    async def test_a_row_is_claimed_once(self, store: Store) -> None:
        """A claim takes the row out; nobody gets it again, and an unknown number is nobody's."""
        needs(store.promises.is_transactional, "is_transactional")
        (number,) = await numbers_of(store, parked("b", "1", key="k", due_at=1))

        assert await claimed(store, number)
        assert not await claimed(store, number)
        assert not await claimed(store, 987_654)
        assert await store.parking.list() == []

    async def test_a_row_that_an_operator_holds_is_not_claimed(self, store: Store) -> None:
        """A parked row leaves the table only once it was redriven or discarded; a waiting one can be claimed."""
        needs(store.promises.is_transactional, "is_transactional")
        held, waiting = await numbers_of(store, parked("b", "1"), parked("b", "2", key="k", due_at=0))

        assert not await claimed(store, held)
        assert await claimed(store, waiting)

    async def test_a_claim_is_taken_back_with_its_unit(self, store: Store) -> None:
        """A row whose claim was not committed is there again."""
        needs(store.promises.is_transactional, "is_transactional")
        (number,) = await numbers_of(store, parked("b", "1", due_at=1))
        async with store.unit() as unit:
            assert await unit.claim(number)

        assert await due_ids(store, 1) == ["1"]
        assert await claimed(store, number)

    async def test_of_two_units_at_once_one_claims_a_row(self, store: Store) -> None:
        """Two redrivers never handle the same row."""
        needs(store.promises.is_transactional, "is_transactional")
        (number,) = await numbers_of(store, parked("b", "1", due_at=1))
        async with asyncio.timeout(DEADLINE):
            answers = await asyncio.gather(*(claimed(store, number) for _ in range(5)))

        assert sorted(answers) == [False] * 4 + [True]

    async def test_what_fails_again_keeps_its_place(self, store: Store) -> None:
        """A claimed row that is parked again with its number stays ahead of those that wait behind it."""
        needs(store.promises.is_transactional, "is_transactional")
        first, second = await numbers_of(
            store, parked("b", "1", key="k", due_at=1), parked("b", "2", key="k", due_at=0)
        )
        async with store.unit() as unit:
            assert await unit.claim(first)
            again = parked("b", "1", key="k", due_at=50)
            again.number = first
            await unit.append([], [again])
            await unit.commit()

        rows = await store.parking.list()
        assert [(row.number, row.message.id, row.due_at) for row in rows] == [(first, "1", 50), (second, "2", 0)]
        assert await due_ids(store, 49) == []
        assert await due_ids(store, 50) == ["1"]

    async def test_the_next_of_a_key_follows(self, store: Store) -> None:
        """Once the first of a key is done or discarded, the one that waited behind it is due."""
        needs(store.promises.is_transactional, "is_transactional")
        rows = [parked("b", str(number), key="k", due_at=0) for number in range(3)]
        first, second, _ = await numbers_of(store, *rows)

        assert await claimed(store, first)
        assert await due_ids(store, 1) == ["1"]
        assert await store.parking.discard(ParkedQuery(numbers=[second, 987_654])) == 1
        assert await due_ids(store, 1) == ["2"]
        assert await store.parking.discard(ParkedQuery(numbers=[second])) == 0

    async def test_redriving_makes_a_row_due(self, store: Store) -> None:
        """A held row becomes due at the time; numbers that are gone are not counted."""
        needs(store.promises.is_transactional, "is_transactional")
        held, other = await numbers_of(store, parked("b", "1", key="k"), parked("b", "2"))

        assert await store.parking.redrive(ParkedQuery(numbers=[held, 987_654]), 300) == 1
        assert await store.parking.redrive(ParkedQuery(numbers=[]), 300) == 0

        assert await due_ids(store, 299) == []
        assert await due_ids(store, 300) == ["1"]
        assert await claimed(store, held)
        assert not await claimed(store, other)

    async def test_redriving_leaves_what_waits_to_its_turn(self, store: Store) -> None:
        """A row that waits behind its queue is no row to redrive: it follows once the first is done."""
        needs(store.promises.is_transactional, "is_transactional")
        first, second = await numbers_of(store, parked("b", "1", key="k"), parked("b", "2", key="k", due_at=0))

        assert await store.parking.redrive(ParkedQuery(numbers=[second]), 300) == 0
        assert await due_ids(store, 1000) == []
        assert await store.parking.redrive(ParkedQuery(key="k"), 300) == 1
        assert await due_ids(store, 300) == ["1"]
        assert await claimed(store, first)
        assert await due_ids(store, 1) == ["2"]

    async def test_what_waits_for_its_time_can_be_tried_now(self, store: Store) -> None:
        """Redriving a row with a later time brings it forward."""
        needs(store.promises.is_transactional, "is_transactional")
        await committed(store, parked=[parked("b", "1", due_at=5000)])

        assert await store.parking.redrive(ParkedQuery(state="due"), 300) == 1
        assert await due_ids(store, 300) == ["1"]


class ParkedQueryConformance(StoreSuite):
    """What an operator asks of the parked messages, and does with those that a query means."""

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (ParkedQuery(), "1 2 3 4 5"),
            (ParkedQuery(binding="b"), "1 2 4 5"),
            (ParkedQuery(key="k"), "1 3"),
            (ParkedQuery(binding="b", key="k"), "1"),
            (ParkedQuery(topic="orders"), "2 4"),
            (ParkedQuery(type="placed"), "4"),
            (ParkedQuery(reason="time"), "2 5"),
            (ParkedQuery(reason="100%_"), "5"),
            (ParkedQuery(reason="TIME"), ""),
            (ParkedQuery(state="parked"), "1 2 5"),
            (ParkedQuery(state="waiting"), "3"),
            (ParkedQuery(state="due"), "4"),
            (ParkedQuery(since=20), "2 3 4 5"),
            (ParkedQuery(before=20), "1"),
            (ParkedQuery(since=20, before=40, binding="b"), "2"),
            (ParkedQuery(key="nobody's"), ""),
            (ParkedQuery(numbers=[]), ""),
        ],
        ids=str,
    )
    async def test_a_query_means_what_fits_all_of_it(self, store: Store, query: ParkedQuery, expected: str) -> None:
        """The list, the count and the discarding agree, whatever is asked for."""
        needs(store.promises.is_transactional, "is_transactional")
        rows = await _various(store)
        wanted = expected.split()

        assert [row.message.id for row in await store.parking.list(query)] == wanted
        assert all(query.fits(row) is (row.message.id in wanted) for row in rows)
        counts = await store.parking.count(query)
        assert sum(counts.values()) == len(wanted)
        assert await store.parking.discard(query) == len(wanted)
        assert [row.message.id for row in await store.parking.list()] == [n for n in "12345" if n not in wanted]

    async def test_counting_is_by_binding(self, store: Store) -> None:
        """Each binding that has a fitting row is told with how many."""
        needs(store.promises.is_transactional, "is_transactional")
        await _various(store)

        assert dict(await store.parking.count()) == {"b": 4, "c": 1}
        assert dict(await store.parking.count(ParkedQuery(key="k"))) == {"b": 1, "c": 1}

    async def test_a_query_can_name_numbers_too(self, store: Store) -> None:
        """Numbers and conditions together mean the rows that fit both."""
        needs(store.promises.is_transactional, "is_transactional")
        numbers = [row.number for row in await _various(store)]

        query = ParkedQuery(numbers=[*numbers[:3], 987_654], binding="b")
        assert [row.message.id for row in await store.parking.list(query)] == ["1", "2"]

    async def test_pages_hold_every_row_once(self, store: Store) -> None:
        """Going on after the last number shown reaches every row, also when rows go in between."""
        needs(store.promises.is_transactional, "is_transactional")
        await committed(store, parked=[parked("b" if n % 2 else "c", str(n)) for n in range(25)])

        seen: list[str] = []
        after = 0
        while page := await store.parking.list(ParkedQuery(binding="b"), after=after, limit=5):
            seen += [row.message.id for row in page]
            after = page[-1].number
            await store.parking.discard(ParkedQuery(numbers=[page[0].number]))

        assert seen == [str(n) for n in range(25) if n % 2]

    async def test_many_rows_are_redriven_and_discarded(self, store: Store) -> None:
        """What is more than one transaction takes is done to the last row."""
        needs(store.promises.is_transactional, "is_transactional")
        await committed(store, parked=[parked("b" if n % 3 else "c", str(n)) for n in range(_MANY)])
        of_c = len(range(0, _MANY, 3))

        assert await store.parking.redrive(ParkedQuery(binding="b"), 300) == _MANY - of_c
        assert len(await store.parking.due(300, _MANY)) == _MANY - of_c
        assert await store.parking.discard(ParkedQuery(state="due")) == _MANY - of_c
        assert dict(await store.parking.count()) == {"c": of_c}

    async def test_an_edited_message_keeps_its_place(self, store: Store) -> None:
        """Payload and attributes are new; number, id, key, state and order are as they were."""
        needs(store.promises.is_transactional, "is_transactional")
        first, second = await numbers_of(store, parked("b", "1", key="k"), parked("b", "2", key="k", due_at=0))

        assert await store.parking.edit(first, b"\x00\xff", attributes={"editedat": "now", "source": "é"}, at=50.0)

        rows = await store.parking.list()
        assert [row.number for row in rows] == [first, second]
        edited = rows[0].message
        assert (edited.data, edited.attributes) == (b"\x00\xff", {"editedat": "now", "source": "é"})
        assert (edited.id, edited.key, edited.topic, edited.type) == ("1", "k", "t", "y")
        assert (rows[0].due_at, rows[0].reason, rows[0].attempts, rows[0].at) == (None, "broken", 1, 1.0)
        assert rows[1].message == parked("b", "2", key="k").message
        assert not await store.parking.edit(987_654, b"", attributes={}, at=50.0)

    async def test_an_edit_forgets_nothing(self, store: Store) -> None:
        """Each earlier payload is kept in order, also when the message was tried again and failed again."""
        needs(store.promises.is_transactional, "is_transactional")
        (number,) = await numbers_of(store, parked("b", "1", key="k", due_at=1))
        await store.parking.edit(number, b"second", attributes={}, at=50.0)
        async with store.unit() as unit:
            assert await unit.claim(number)
            again = ParkedMessage("b", message("1", key="k"), reason="again", at=60.0, number=number)
            await unit.append([], [again])
            await unit.commit()
        await store.parking.edit(number, b"third", attributes={}, at=70.0)

        found = await store.parking.inspect(number)
        assert found is not None
        assert found.row.message.data == b"third"
        assert [(edit.at, edit.data) for edit in found.edits] == [(50.0, b"{}"), (70.0, b"{}")]
        await store.parking.discard(ParkedQuery(numbers=[number]))
        assert await store.parking.inspect(number) is None

    async def test_an_inspection_tells_what_a_row_waits_for(self, store: Store) -> None:
        """The first of its queue in its binding, which may be itself; a row without a queue waits for none."""
        needs(store.promises.is_transactional, "is_transactional")
        rows = [parked("b", "1", key="k"), parked("c", "2", key="k"), parked("b", "3", key="k", due_at=0)]
        rows += [parked("b", "4"), parked("b", "5"), parked("b", "6")]
        rows[-1].queue = "k"
        numbers = await numbers_of(store, *rows)

        found = [await store.parking.inspect(number) for number in numbers]

        first, other, _, free, free_too, _ = numbers
        assert [one and one.first for one in found] == [first, other, first, free, free_too, first]
        assert not any(one and one.edits for one in found)
        assert await store.parking.inspect(987_654) is None

    async def test_where_nothing_is_parked_nothing_is_changed_in_silence(self, store: Store) -> None:
        """A store that keeps no parked rows answers that there are none, and refuses to change any."""
        if store.promises.is_transactional:
            pytest.skip("not promised: a store without parked rows")

        assert list(await store.parking.list()) == []
        assert dict(await store.parking.count(ParkedQuery(binding="b"))) == {}
        assert await store.parking.inspect(1) is None
        with pytest.raises(StatementFailed, match="parked"):
            await store.parking.redrive(ParkedQuery(), 1.0)
        with pytest.raises(StatementFailed, match="parked"):
            await store.parking.discard(ParkedQuery())
        with pytest.raises(StatementFailed, match="parked"):
            await store.parking.edit(1, b"", attributes={}, at=1.0)


async def _various(store: Store) -> Sequence[ParkedMessage]:
    """Five rows that differ in everything that can be asked for."""
    rows = [
        _row("b", "1", key="k", topic="t", reason="broken", at=10.0),
        _row("b", "2", key="l", topic="orders", reason="a timeout", at=20.0),
        _row("c", "3", key="k", topic="t", reason="waits", at=30.0, due_at=0.0),
        _row("b", "4", topic="orders", type="placed", reason="later", at=40.0, due_at=500.0),
        _row("b", "5", topic="t", reason="timed out at 100%_", at=50.0),
    ]
    await committed(store, parked=rows)
    return await store.parking.list()


def _row(
    binding: str,
    id: str,
    *,
    topic: str,
    reason: str,
    at: float,
    key: str | None = None,
    type: str = "y",
    due_at: float | None = None,
) -> ParkedMessage:
    inner = Message(topic, b"{}", id=id, type=type, key=key, attributes={"source": "/conformance"})
    return ParkedMessage(binding, inner, reason=reason, at=at, attempts=1, due_at=due_at)
