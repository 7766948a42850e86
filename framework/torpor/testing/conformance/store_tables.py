"""The tables beside the units: parked messages and leases. See `torpor.testing.conformance.store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.message import Message, ParkedMessage
from torpor.testing.conformance.store import (
    DEADLINE,
    StoreSuite,
    claimed,
    committed,
    due_ids,
    needs,
    numbers_of,
    parked,
)

if TYPE_CHECKING:
    from torpor.ports.store import Store


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
        assert await store.parking.discard([second, 987_654]) == 1
        assert await due_ids(store, 1) == ["2"]
        assert await store.parking.discard([second]) == 0

    async def test_redriving_makes_a_row_due(self, store: Store) -> None:
        """A held row becomes due at the time; numbers that are gone are not counted."""
        needs(store.promises.is_transactional, "is_transactional")
        held, other = await numbers_of(store, parked("b", "1", key="k"), parked("b", "2"))

        assert await store.parking.redrive([held, 987_654], 300) == 1
        assert await store.parking.redrive([], 300) == 0

        assert await due_ids(store, 299) == []
        assert await due_ids(store, 300) == ["1"]
        assert await claimed(store, held)
        assert not await claimed(store, other)

    async def test_listing_and_counting(self, store: Store) -> None:
        """Rows are listed in order of their number, by binding, by key and up to a limit, and counted by binding."""
        needs(store.promises.is_transactional, "is_transactional")
        rows = [parked("b", "1", key="k"), parked("c", "2", key="k"), parked("b", "3"), parked("b", "4", key="k")]
        await committed(store, parked=rows)

        assert [row.message.id for row in await store.parking.list()] == ["1", "2", "3", "4"]
        assert [row.message.id for row in await store.parking.list(limit=2)] == ["1", "2"]
        assert [row.message.id for row in await store.parking.list(binding="b")] == ["1", "3", "4"]
        assert [row.message.id for row in await store.parking.list(key="k")] == ["1", "2", "4"]
        assert [row.message.id for row in await store.parking.list(binding="b", key="k")] == ["1", "4"]
        assert dict(await store.parking.count()) == {"b": 3, "c": 1}


class LeaseConformance(StoreSuite):
    """One holder at a time, and epochs that only rise."""

    async def test_a_lease_is_exclusive(self, store: Store) -> None:
        """While one holds a lease another gets None; a lease of another name is another lease."""
        needs(store.promises.is_transactional, "is_transactional")
        assert await store.leases.acquire("relay", "one", 60) is not None
        assert await store.leases.acquire("relay", "another", 60) is None
        assert await store.leases.acquire("timers", "another", 60) is not None

    async def test_renewing_keeps_the_epoch(self, store: Store) -> None:
        """The holder renews its lease, even an expired one that nobody took, and keeps its epoch."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await store.leases.acquire("relay", "one", 0)
        assert await store.leases.acquire("relay", "one", 60) == epoch
        assert await store.leases.acquire("relay", "another", 60) is None

    async def test_a_takeover_raises_the_epoch(self, store: Store) -> None:
        """An expired lease goes to whoever asks, with a higher epoch each time it changes hands."""
        needs(store.promises.is_transactional, "is_transactional")
        epochs = [await store.leases.acquire("relay", holder, 0) for holder in ("one", "another", "one")]

        assert None not in epochs
        assert epochs == sorted({epoch or 0 for epoch in epochs})

    async def test_a_released_lease_is_free_at_once(self, store: Store) -> None:
        """After its release another takes the lease with a higher epoch; only the holder can release it."""
        needs(store.promises.is_transactional, "is_transactional")
        first = await store.leases.acquire("relay", "one", 60)
        await store.leases.release("relay", "another")
        assert await store.leases.acquire("relay", "another", 60) is None

        await store.leases.release("relay", "one")
        await store.leases.release("never taken", "one")

        second = await store.leases.acquire("relay", "another", 60)
        assert first is not None
        assert second is not None
        assert second > first

    async def test_of_many_at_once_one_gets_the_lease(self, store: Store) -> None:
        """A race for a lease has one winner."""
        needs(store.promises.is_transactional, "is_transactional")
        async with asyncio.timeout(DEADLINE):
            epochs = await asyncio.gather(*(store.leases.acquire("relay", str(n), 60) for n in range(6)))

        assert sum(epoch is not None for epoch in epochs) == 1
