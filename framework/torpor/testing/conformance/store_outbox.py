"""The outbox log as its keeper and an operator use it: parking on the way, replays, counts, hints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import pytest

from torpor.kernel.errors import LeaseLost
from torpor.kernel.message import Message
from torpor.testing.conformance.store import (
    DEADLINE,
    FAR_FUTURE,
    StoreSuite,
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

    from torpor.ports.outbox import LogEntry
    from torpor.ports.store import Store
    from torpor.testing.conformance.store import StoreBackend


class ReplayConformance(StoreSuite):
    """What was published is there to be published again, for a while."""

    async def test_what_is_refused_is_parked_with_the_advance(self, store: Store) -> None:
        """The cursors move and the refused messages are parked, or neither when the epoch is over."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, message("1", key="k"), message("2", key="k"))
        positions = last_of(await store.outbox.pending(10))
        refused = [parked("outbox", "1", key="k"), parked("outbox", "2", key="k", due_at=0.0)]

        with pytest.raises(LeaseLost):
            await store.outbox.advance(positions, epoch + 1, refused)
        assert await pending_ids(store) == ["1", "2"]
        assert list(await store.parking.list()) == []

        await store.outbox.advance(positions, epoch, refused)
        assert await pending_ids(store) == []
        assert [(row.message.id, row.state) for row in await store.parking.list()] == [
            ("1", "parked"),
            ("2", "waiting"),
        ]

    async def test_a_replay_gives_the_rows_again(self, store: Store) -> None:
        """They are pending again in their order, before what was not published yet."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await published(store, *(message(str(number), key="k") for number in range(5)))
        await committed(store, message("new", key="k"))

        assert dict(await store.outbox.published_since(0)) == {message("1").topic: 5}
        await store.outbox.replay(0)

        assert await pending_ids(store) == ["0", "1", "2", "3", "4", "new"]
        raised = await relay_lease(store)
        assert raised > epoch
        await store.outbox.advance(last_of(await store.outbox.pending(10)), raised)
        assert await pending_ids(store) == []

    async def test_an_old_epoch_reads_nothing(self, store: Store) -> None:
        """A relay that lost its lease is told so when it reads, and not only when it has published."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, message("1"))

        assert [entry.message.id for entry in await store.outbox.pending(10, epoch)] == ["1"]
        with pytest.raises(LeaseLost):
            await store.outbox.pending(10, epoch + 1)

    async def test_a_replay_stops_a_relay_under_way(self, store: Store) -> None:
        """A relay that has read before it cannot move the cursors on; its holder goes on under a higher epoch."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await published(store, message("1"))
        await committed(store, message("2"))
        entries = await store.outbox.pending(10)
        await store.outbox.replay(0)

        with pytest.raises(LeaseLost):
            await store.outbox.advance(last_of(entries), epoch)

        assert sorted(await pending_ids(store)) == ["1", "2"]
        assert await store.leases.acquire("keeper", "another", 60) is None

    async def test_a_replay_begins_at_its_time(self, store: Store) -> None:
        """What is older is not published again; nothing since then is nothing to do."""
        needs(store.promises.is_transactional, "is_transactional")
        await published(store, message("1"))

        assert dict(await store.outbox.published_since(FAR_FUTURE)) == {}
        await store.outbox.replay(FAR_FUTURE)

        assert await pending_ids(store) == []

    async def test_a_replay_of_a_topic_leaves_the_others_out(self, store: Store) -> None:
        """The others' rows are passed over up to where the cursors had been, and not beyond."""
        needs(store.promises.is_transactional, "is_transactional")
        old = [Message(topic, b"", id=f"{topic}{number}", type="y", key="k") for number in range(3) for topic in "tu"]
        await published(store, *old)
        await committed(store, Message("t", b"", id="new", type="y", key="k"))

        assert dict(await store.outbox.published_since(0, "u")) == {"u": 3}
        await store.outbox.replay(0, "u")

        assert await wanted(store) == ["u0", "u1", "u2", "new"]
        await store.outbox.advance(last_of(await store.outbox.pending(10)), await relay_lease(store))
        assert await wanted(store) == []

    async def test_replays_of_two_topics_are_joined(self, store: Store) -> None:
        """A second one, while the first is under way, takes nothing away from it."""
        needs(store.promises.is_transactional, "is_transactional")
        await published(store, *(Message(topic, b"", id=topic, type="y", key="k") for topic in "tu"))
        await store.outbox.replay(0, "t")
        await store.outbox.replay(0, "u")

        assert {"t", "u"} <= set(await wanted(store))

    async def test_the_log_is_counted(self, store: Store) -> None:
        """What waits, what is kept, and since when."""
        needs(store.promises.is_transactional, "is_transactional")
        empty = await store.outbox.state()
        assert (empty.kept, empty.waiting, empty.kept_since, empty.waiting_since) == (0, 0, None, None)
        await published(store, *(message(str(number), key="k") for number in range(3)))
        await committed(store, message("new", key="k"))

        state = await store.outbox.state()

        assert (state.kept, state.waiting) == (4, 1)
        assert state.kept_since is not None
        assert state.waiting_since is not None
        assert state.waiting_since >= state.kept_since
        assert max(state.cursors.values()) > 0


class ReadAheadConformance(StoreSuite):
    """What follows on a batch can be read while that is on its way."""

    async def test_the_next_rows_are_read_past_those_on_their_way(self, store: Store) -> None:
        """Each row is read once, in the order of its key, whether the cursors have moved or not."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, *(message(f"{key}{n}", key=key) for n in range(5) for key in "abc"))

        first = await store.outbox.pending(4, epoch)
        second = await store.outbox.pending(4, epoch, last_of(first))
        await store.outbox.advance(last_of(first), epoch)
        again = await store.outbox.pending(4, epoch, last_of(first))
        rest = await store.outbox.pending(20, epoch, last_of([*first, *second]))

        assert ids(again) == ids(second)
        every = ids([*first, *second, *rest])
        assert sorted(every) == sorted(f"{key}{n}" for n in range(5) for key in "abc")
        assert [[id for id in every if id[0] == key] for key in "abc"] == [[f"{k}{n}" for n in range(5)] for k in "abc"]

    async def test_cursors_that_are_further_count(self, store: Store) -> None:
        """What was on its way, and is done since, takes nothing back."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, *(message(str(n), key="k") for n in range(3)))
        first = await store.outbox.pending(1, epoch)
        await store.outbox.advance(last_of(await store.outbox.pending(2, epoch)), epoch)

        assert ids(await store.outbox.pending(10, epoch, last_of(first))) == ["2"]
        assert ids(await store.outbox.pending(10, epoch)) == ["2"]

    async def test_reading_ahead_moves_no_cursor(self, store: Store) -> None:
        """A relay that dies before it has published what it read ahead leaves it to the next."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await relay_lease(store)
        await committed(store, message("1", key="k"), message("2", key="k"))
        first = await store.outbox.pending(1, epoch)

        assert ids(await store.outbox.pending(1, epoch, last_of(first))) == ["2"]
        assert await pending_ids(store) == ["1", "2"]

    async def test_an_old_epoch_reads_nothing_ahead(self, store: Store) -> None:
        """A replay, or another relay, is noticed by what is read ahead too; after it all is read again."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await published(store, message("1", key="k"))
        await committed(store, message("2", key="k"), message("3", key="k"))
        first = await store.outbox.pending(1, epoch)
        await store.outbox.replay(0)

        with pytest.raises(LeaseLost):
            await store.outbox.pending(1, epoch, last_of(first))
        assert await pending_ids(store) == ["1", "2", "3"]

    async def test_what_a_replay_leaves_out_is_told_ahead(self, store: Store) -> None:
        """The rows of other topics are marked in what is read ahead as in what is read."""
        needs(store.promises.is_transactional, "is_transactional")
        await published(
            store, *(Message(topic, b"", id=f"{topic}{n}", type="y", key="k") for n in range(2) for topic in "tu")
        )
        await store.outbox.replay(0, "u")
        first = await store.outbox.pending(1)

        rest = await store.outbox.pending(10, None, last_of(first))

        assert [(entry.message.id, entry.is_left_out) for entry in [*first, *rest]] == [
            ("t0", True),
            ("u0", False),
            ("t1", True),
            ("u1", False),
        ]


class HintsConformance(StoreSuite):
    """Hints reach whoever listens, where the store can hear at all."""

    async def test_a_hint_is_heard(self, store: Store) -> None:
        """What is told reaches the listener, also when much is told at once."""
        async with Listener(store) as listener:
            for _ in range(100):
                store.hints.tell()
            await listener.hears()

    async def test_another_process_is_heard(self, store: Store, backend: StoreBackend) -> None:
        """A hint comes from any process on the database."""
        needs(store.promises.is_durable, "is_durable")
        another = backend.store()
        await another.start()
        try:
            async with Listener(store) as listener:
                another.hints.tell()
                await listener.hears()
        finally:
            await another.stop()

    async def test_telling_never_fails(self, store: Store, backend: StoreBackend) -> None:
        """A hint is no matter for whoever commits: also without a database it raises nothing."""
        await store.stop()
        store.hints.tell()
        backend.store().hints.tell()
        await asyncio.sleep(0)


class Listener:
    """Listens on a store while it is entered. Skips when the store cannot hear."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._listening = asyncio.create_task(self._store.hints.listen(self._heard.set))
        await asyncio.sleep(0)
        if self._listening.done():
            pytest.skip("not promised: a store that hears hints")
        # A connection may have to be made first, and tells with a first call that it is there.
        if self._store.promises.is_durable:
            await self.hears()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def hears(self) -> None:
        """Waits for a call, and forgets it."""
        async with asyncio.timeout(DEADLINE):
            await self._heard.wait()
        self._heard.clear()


async def published(store: Store, *messages: Message) -> int:
    """Commits messages and moves the cursors past them; returns the epoch."""
    epoch = await relay_lease(store)
    await committed(store, *messages)
    await store.outbox.advance(last_of(await store.outbox.pending(1000)), epoch)
    return epoch


def ids(entries: Sequence[LogEntry]) -> list[str]:
    """The ids of rows, in their order."""
    return [entry.message.id for entry in entries]


async def wanted(store: Store) -> list[str]:
    """The ids of what is to be published, and not left out."""
    return [entry.message.id for entry in await store.outbox.pending(1000) if not entry.is_left_out]
