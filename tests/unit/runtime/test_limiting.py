"""Limits that replicas count together: on one shelf, without it, and against each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import ConfigurationError, Limit
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.shelf import MemoryShelf
from torpor.kernel.errors import StoreUnavailable
from torpor.kernel.limit import Buckets
from torpor.runtime.limiting import TRIES, SharedBuckets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.ports.shelf import Placed


class Table:
    """A shelf that tells what it was asked, is away when it is told so, and lets others be faster."""

    def __init__(self, clock: VirtualClock) -> None:
        self.promises = MemoryShelf(clock).promises
        self.asked: list[str] = []
        self.is_away = False
        self.faster = 0
        self.gate: asyncio.Event | None = None
        self._shelf = MemoryShelf(clock)

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        await self._ask("find")
        return await self._shelf.find(keys)

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        await self._ask("put")
        if self.faster:
            self.faster -= 1
            return None
        return await self._shelf.put(key, value, seconds=seconds, revision=revision)

    async def remove(self, keys: Sequence[str]) -> None:
        await self._shelf.remove(keys)

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise StoreUnavailable("It is switched off.")


class Replicas:
    """Two replicas and what they share."""

    def __init__(self, *, strict: bool = False, burst: int = 4) -> None:
        self.clock = VirtualClock()
        self.table = Table(self.clock)
        self.limit = Limit(1, per=10, burst=burst, shared=True, strict=strict)
        self.one, self.other = self.started(), self.started()

    def started(self) -> SharedBuckets:
        """A replica that has just started."""
        return SharedBuckets(self.limit, "orders.place", shelf=self.table, clock=self.clock)


async def test_replicas_count_together() -> None:
    """Together they let in what the limit says, each is told what is left for both, and time gives tokens back."""
    both = Replicas()
    lefts = [await buckets.take("a") for buckets in (both.one, both.other, both.one, both.other)]
    assert lefts == [3, 2, 1, 0]
    assert [await buckets.take("a") for buckets in (both.one, both.other, both.started())] == [-10, -10, -10]
    assert await both.other.take("b") == 3
    await both.clock.advance(10)
    assert await both.other.take("a") == 0
    assert await both.one.take("a") == -10


async def test_a_request_costs_one_exchange() -> None:
    """The first looks, those that follow put in place of what they know, and a refusal that is known costs none."""
    both = Replicas()
    for _ in range(6):
        await both.one.take("a")
    assert both.table.asked == ["find", "put", "put", "put", "put"]
    await both.clock.advance(20)
    both.table.asked.clear()
    await both.one.take("a")
    assert both.table.asked == ["put"]
    await both.clock.advance(3600)
    both.table.asked.clear()
    assert await both.one.take("a") == 3
    assert both.table.asked == ["put", "find", "put"]


async def test_those_who_come_meanwhile_are_counted_together() -> None:
    """However many ask at once, one exchange counts for all who wait, and no more are let in than the limit says."""
    both = Replicas(burst=10)
    both.table.gate = asyncio.Event()
    asking = [asyncio.create_task(both.one.take("a")) for _ in range(30)]
    await asyncio.sleep(0)
    both.table.gate.set()
    lefts = await asyncio.gather(*asking)
    assert lefts == [*range(9, -1, -1), *[-10] * 20]
    assert both.table.asked == ["find", "put"]


async def test_at_once_they_let_in_no_more_than_one_would() -> None:
    """Replicas that ask at the same time are let in as often as the limit says, and a little more at most when one of
    them had to count alone."""
    both = Replicas(burst=20)
    replicas = [both.started() for _ in range(4)]
    lefts = await asyncio.gather(*(replicas[number % 4].take("a") for number in range(100)))
    assert len([left for left in lefts if left >= 0]) == 20


async def test_who_is_always_overtaken_counts_alone() -> None:
    """After some tries the process lets in by its own count, and goes on with the others afterwards."""
    both = Replicas()
    both.table.faster = TRIES
    assert await both.one.take("a") == 3
    assert await both.one.take("a") == 3
    assert both.table.asked.count("put") == TRIES + 1


@given(
    burst=st.integers(1, 6),
    asked=st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0.0, 0.5, 3.0, 10.0, 25.0]))),
)
def test_two_replicas_count_as_one_process_would(burst: int, asked: list[tuple[int, float]]) -> None:
    """Whoever is asked when, what is left is what one process alone would have counted."""

    async def ask() -> None:
        both = Replicas(burst=burst)
        alone = Buckets(both.limit)
        for which, seconds in asked:
            await both.clock.advance(seconds)
            left = await (both.one, both.other)[which].take("a")
            assert left == pytest.approx(alone.take("a", both.clock.time()))

    asyncio.run(ask())


async def test_without_the_shelf_each_counts_alone() -> None:
    """A limit is open, as far as one process may be, while nobody can tell what the others have let in."""
    both = Replicas()
    both.table.is_away = True
    assert [await both.one.take("a") for _ in range(5)] == [3, 2, 1, 0, -10]
    assert await both.other.take("a") == 3
    both.table.is_away = False
    assert await both.one.take("a") == 3


async def test_a_strict_limit_is_closed_without_the_shelf() -> None:
    """Nobody is let in uncounted, each who waits is told so, and what is known to be empty is told at once."""
    both = Replicas(strict=True, burst=1)
    both.table.is_away = True
    found: list[Any] = await asyncio.gather(*(both.one.take("a") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [StoreUnavailable] * 3
    both.table.is_away = False
    assert await both.one.take("a") == 0
    both.table.is_away = True
    assert await both.one.take("a") == -10


async def test_what_somebody_else_put_there_is_replaced() -> None:
    """A value that is no time counts as a full bucket."""
    both = Replicas()
    await both.one.take("a")
    key = both.one._bucket("a").key
    await both.table._shelf.put(key, b"strange", seconds=60)
    assert await both.other.take("a") == 3


async def test_no_key_tells_whom_it_is_for() -> None:
    """What is counted by may be a secret, such as a key in a header: it is not stored, and of any text."""
    both = Replicas()
    for whose in ("secret", "Ä\n", "\ud800", ""):
        assert await both.one.take(whose) == 3
        assert both.one._bucket(whose).key.isalnum() is False
        assert whose == "" or whose not in both.one._bucket(whose).key


def test_strict_is_of_a_shared_limit() -> None:
    """A limit that each process counts alone cannot be away."""
    with pytest.raises(ConfigurationError, match="strict=True"):
        Limit(1, strict=True)
    assert repr(Limit(1, shared=True, strict=True)).endswith("by='client', shared=True, strict=True)")
