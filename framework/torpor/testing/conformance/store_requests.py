"""The requests with a key, and their answers. See `torpor.testing.conformance.store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.ports.requests import Answer
from torpor.testing.conformance.store import DEADLINE, StoreSuite, needs

if TYPE_CHECKING:
    from torpor.ports.requests import Turn
    from torpor.ports.store import Store

PLACE = "orders.place"


class RequestsConformance(StoreSuite):
    """Answers: kept with their unit, found by their key, forgotten when their time is over."""

    async def test_an_answer_comes_back_whole(self, store: Store) -> None:
        """Every field is read as it was kept, bytes and repeated headers too."""
        needs(store.promises.is_transactional, "is_transactional")
        headers = [("content-type", "application/json"), ("link", "<é>"), ("link", '<"b">')]
        await kept(store, "k", Answer("print", 201, headers, b"\x00\xff{}"))
        found = (await taken(store, "k")).answer
        assert found is not None
        assert (found.fingerprint, found.status, found.headers, found.body) == (
            "print",
            201,
            tuple(headers),
            b"\x00\xff{}",
        )

    async def test_an_unknown_key_has_no_answer(self, store: Store) -> None:
        """A key is known in its own place alone, by all of its text."""
        needs(store.promises.is_transactional, "is_transactional")
        long = "x" * 5000
        await kept(store, "k", answer(), place=long)
        for place, key in ((PLACE, "k"), (long, "K"), (long + "x", "k"), (long, "k ")):
            turn = await taken(store, key, place=place)
            assert (turn.answer, turn.is_taken) == (None, False)
        assert (await taken(store, "k", place=long)).answer is not None

    async def test_an_answer_belongs_to_its_unit(self, store: Store) -> None:
        """What is kept in a unit that is not committed is not there, and its key is free again."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as unit:
            await unit.requests.take(PLACE, "k", 0.0)
            await unit.requests.keep(PLACE, "k", answer(), until=100.0)
        turn = await taken(store, "k")
        assert (turn.answer, turn.is_taken) == (None, False)

    async def test_a_key_under_way_is_told_at_once(self, store: Store) -> None:
        """While a unit has a key, another that asks is told so without waiting; then it finds the answer."""
        needs(store.promises.is_transactional, "is_transactional")
        async with store.unit() as first:
            assert not (await first.requests.take(PLACE, "k", 0.0)).is_taken
            async with asyncio.timeout(DEADLINE), store.unit() as second:
                assert (await second.requests.take(PLACE, "k", 0.0)).is_taken
            await first.requests.keep(PLACE, "k", answer(), until=100.0)
            await first.commit()
        turn = await taken(store, "k")
        assert (turn.answer is not None, turn.is_taken) == (True, False)

    async def test_of_many_at_once_one_has_the_key(self, store: Store) -> None:
        """However many ask for a key at once, each is told of the answer, or that it is taken, but for one."""
        needs(store.promises.is_transactional, "is_transactional")

        async def attempt() -> str:
            async with store.unit() as unit:
                turn = await unit.requests.take(PLACE, "k", 0.0)
                if turn.is_taken:
                    return "taken"
                if turn.answer is not None:
                    return "answered"
                await unit.requests.keep(PLACE, "k", answer(), until=100.0)
                await unit.commit()
                return "ran"

        outcomes = await asyncio.gather(*(attempt() for _ in range(8)))
        assert outcomes.count("ran") == 1
        assert await attempt() == "answered"

    async def test_an_answer_has_its_time(self, store: Store) -> None:
        """One whose time is over is no answer, and its key can be used anew."""
        needs(store.promises.is_transactional, "is_transactional")
        await kept(store, "k", answer("old"), until=10.0)
        assert (await taken(store, "k", now=9.0)).answer is not None
        assert (await taken(store, "k", now=10.0)).answer is None
        await kept(store, "k", answer("new"), until=20.0, now=10.0)
        found = (await taken(store, "k", now=11.0)).answer
        assert found is not None
        assert found.fingerprint == "new"

    async def test_what_is_over_is_forgotten(self, store: Store) -> None:
        """Forgetting removes the answers whose time was over, and no other."""
        needs(store.promises.is_transactional, "is_transactional")
        for key, until in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
            await kept(store, key, answer(), until=until)
        await store.answers.forget(20.0)
        assert [(await taken(store, key, now=5.0)).answer is not None for key in "abc"] == [False, True, True]

    async def test_an_answer_survives_a_restart(self, store: Store) -> None:
        """What was answered is known when the process has ended."""
        needs(store.promises.is_durable, "is_durable")
        await kept(store, "k", answer())
        await store.stop()
        await store.start()
        assert (await taken(store, "k")).answer is not None


def answer(fingerprint: str = "print") -> Answer:
    """An answer."""
    return Answer(fingerprint, 200, [("content-type", "text/plain")], b"done")


async def taken(store: Store, key: str, *, place: str = PLACE, now: float = 0.0) -> Turn:
    """What a unit finds that asks for a key, and leaves it."""
    async with store.unit() as unit:
        return await unit.requests.take(place, key, now)


async def kept(
    store: Store, key: str, answer: Answer, *, place: str = PLACE, until: float = 100.0, now: float = 0.0
) -> None:
    """Keeps an answer, in a unit that has taken its key."""
    async with store.unit() as unit:
        await unit.requests.take(place, key, now)
        await unit.requests.keep(place, key, answer, until=until)
        await unit.commit()
