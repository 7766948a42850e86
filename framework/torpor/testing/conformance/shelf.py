"""What a shelf must keep. In a test module, with a fixture `shelves` that returns a `ShelfBackend`:

```python
class TestShelf(ShelfConformance): ...


class TestSharing(SharingConformance): ...
```
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pytest

from torpor.kernel.errors import BrokerUnavailable, NotRunning, Rejected, StoreUnavailable
from torpor.ports.shelf import ABSENT, LARGEST
from torpor.testing.conformance.broker import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from torpor.ports.shelf import Shelf

ODD = (
    "",
    " ",
    "a b",
    "a.b.>",
    "*",
    "Ä/☃?x=1&y=2",
    "\x00\n",
    "\ud800",
    "k" * 5000,
    "k" * 4999 + "l",
    "K",
    "k",
    "a=b",
    "'",
)


class ShelfBackend(Protocol):
    """What an adapter's test module gives: shelves on one backend, of one service."""

    async def shelf(self) -> Shelf:
        """A shelf that can be asked, as another process of the service has one."""
        ...

    async def restart(self) -> None:
        """Ends every process that has a shelf, in order."""
        ...

    async def absent(self) -> Shelf:
        """A shelf whose backend is not there."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Returns when so much time has passed on the clock of the shelves; at once if that is a test's."""
        ...


class ShelfSuite:
    """What the suites share: a shelf, and a key of the test's own."""

    @pytest.fixture
    async def shelf(self, shelves: ShelfBackend) -> Shelf:
        """A shelf that can be asked."""
        return await shelves.shelf()

    @pytest.fixture
    def key(self) -> str:
        """A key that no other test uses."""
        return f"conformance:{uuid4().hex}"


class ShelfConformance(ShelfSuite):
    """Values: found as they were put, put in place of a revision, removed."""

    async def test_a_value_is_found_whole(self, shelf: Shelf, key: str) -> None:
        """What was put is found under its key, byte for byte, and nothing is found under another."""
        revision = await shelf.put(key, b"\x00\xff{}\r\n", seconds=60)
        found = await shelf.find([key, f"{key}x"])
        assert {name: (placed.value, placed.revision) for name, placed in found.items()} == {
            key: (b"\x00\xff{}\r\n", revision)
        }
        assert revision is not None
        assert revision > 0

    async def test_nothing_is_found_among_no_keys(self, shelf: Shelf) -> None:
        """To ask for nothing, and to remove nothing, is no mistake."""
        assert await shelf.find([]) == {}
        await shelf.remove([])

    async def test_the_last_value_takes_the_place_of_the_first(self, shelf: Shelf, key: str) -> None:
        """Without a revision whatever is there is replaced, and each value has a revision of its own."""
        revisions = [await shelf.put(key, value, seconds=60) for value in (b"1", b"2", b"3")]
        placed = (await shelf.find([key]))[key]
        assert (placed.value, placed.revision) == (b"3", revisions[2])
        assert len(set(revisions)) == 3

    @pytest.mark.parametrize("size", [0, 1, 65_536, LARGEST])
    async def test_a_value_may_be_empty_or_large(self, shelf: Shelf, key: str, size: int) -> None:
        """A value of any size up to the largest is kept."""
        value = bytes([size % 251]) * size
        assert await shelf.put(key, value, seconds=60)
        assert (await shelf.find([key]))[key].value == value

    async def test_a_value_over_the_largest_is_refused(self, shelf: Shelf, key: str) -> None:
        """It is told how much may be put, and what lay there stays."""
        await shelf.put(key, b"before", seconds=60)
        with pytest.raises(Rejected, match=f"{LARGEST + 1} bytes.*at most {LARGEST}"):
            await shelf.put(key, b"x" * (LARGEST + 1), seconds=60)
        assert (await shelf.find([key]))[key].value == b"before"

    async def test_a_key_may_be_any_text(self, shelf: Shelf, key: str) -> None:
        """Each of the odd ones is a key of its own."""
        keys = [f"{odd}{key}" for odd in ODD] + [f"{key}{odd}" for odd in ODD if odd]
        for number, name in enumerate(keys):
            await shelf.put(name, b"%d" % number, seconds=60)
        found = await shelf.find(keys)
        assert [found[name].value for name in keys] == [b"%d" % number for number in range(len(keys))]
        await shelf.remove(keys)
        assert await shelf.find(keys) == {}

    async def test_a_value_is_put_only_where_nothing_is(self, shelf: Shelf, key: str) -> None:
        """With ABSENT the first value stays, until it is removed."""
        assert await shelf.put(key, b"1", seconds=60, revision=ABSENT)
        assert await shelf.put(key, b"2", seconds=60, revision=ABSENT) is None
        assert (await shelf.find([key]))[key].value == b"1"
        await shelf.remove([key])
        assert await shelf.put(key, b"3", seconds=60, revision=ABSENT)
        assert (await shelf.find([key]))[key].value == b"3"

    async def test_a_value_is_put_only_in_place_of_its_revision(self, shelf: Shelf, key: str) -> None:
        """A revision that is not there any more, or never was, is refused."""
        assert await shelf.put(key, b"0", seconds=60, revision=7) is None
        first = await shelf.put(key, b"1", seconds=60)
        second = await shelf.put(key, b"2", seconds=60, revision=first)
        assert second
        assert await shelf.put(key, b"3", seconds=60, revision=first) is None
        await shelf.remove([key])
        assert await shelf.put(key, b"4", seconds=60, revision=second) is None
        assert await shelf.find([key]) == {}
        again = await shelf.put(key, b"5", seconds=60)
        assert again not in {first, second}
        assert await shelf.put(key, b"6", seconds=60, revision=second) is None

    async def test_what_is_removed_is_gone(self, shelf: Shelf, key: str) -> None:
        """Removing takes the named away, whether there or not, and leaves the others."""
        other = f"{key}-other"
        await shelf.put(key, b"1", seconds=60)
        await shelf.put(other, b"2", seconds=60)
        await shelf.remove([key, f"{key}-never"])
        await shelf.remove([key])
        assert list(await shelf.find([key, other])) == [other]


class SharingConformance(ShelfSuite):
    """Values among processes, in time, and without their backend."""

    async def test_a_value_has_its_time(self, shelf: Shelf, shelves: ShelfBackend, key: str) -> None:
        """It is gone once its time is over, may be put anew then, and one that lasts is still there."""
        await shelf.put(f"{key}-long", b"1", seconds=3600)
        revision = await shelf.put(key, b"1", seconds=1)
        assert await shelf.find([key])
        await shelves.pass_time(1.05 + shelf.promises.resolution)
        await gone(shelf, key)
        assert await shelf.put(key, b"2", seconds=60, revision=revision) is None
        assert await shelf.put(key, b"3", seconds=60, revision=ABSENT)
        assert (await shelf.find([key]))[key].value == b"3"
        assert await shelf.find([f"{key}-long"])

    async def test_a_value_that_is_put_again_has_its_time_anew(
        self, shelf: Shelf, shelves: ShelfBackend, key: str
    ) -> None:
        """The time of the last value counts, however it was put."""
        first = await shelf.put(key, b"1", seconds=1)
        await shelf.put(key, b"2", seconds=3600, revision=first)
        await shelf.put(f"{key}2", b"1", seconds=1)
        await shelf.put(f"{key}2", b"2", seconds=3600)
        await shelves.pass_time(1.05 + shelf.promises.resolution)
        assert len(await shelf.find([key, f"{key}2"])) == 2

    async def test_of_many_who_put_in_place_of_one_revision_one_succeeds(self, shelf: Shelf, key: str) -> None:
        """Nobody's value is lost: each put that was accepted stood on the one before it."""

        async def add() -> None:
            while True:
                placed = (await shelf.find([key])).get(key)
                count, revision = (0, ABSENT) if placed is None else (int(placed.value), placed.revision)
                if await shelf.put(key, b"%d" % (count + 1), seconds=60, revision=revision) is not None:
                    return

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(add() for _ in range(20)))
        assert (await shelf.find([key]))[key].value == b"20"

    async def test_what_one_puts_another_finds(self, shelf: Shelf, shelves: ShelfBackend, key: str) -> None:
        """Two processes have one shelf, where that is promised, and of two who put in one place one succeeds."""
        if not shelf.promises.is_shared:
            pytest.skip("not promised: is_shared")
        other = await shelves.shelf()
        await shelf.put(key, b"1", seconds=60)
        placed = (await other.find([key]))[key]
        both = await asyncio.gather(
            *(one.put(key, b"2", seconds=60, revision=placed.revision) for one in (shelf, other) for _ in range(5))
        )
        assert len([revision for revision in both if revision is not None]) == 1
        await other.remove([key])
        assert await shelf.find([key]) == {}

    async def test_what_was_put_outlives_the_processes(self, shelf: Shelf, shelves: ShelfBackend, key: str) -> None:
        """A value is there when the service comes back, where that is promised."""
        if not shelf.promises.is_persistent:
            pytest.skip("not promised: is_persistent")
        await shelf.put(key, b"1", seconds=3600)
        await shelves.restart()
        assert (await (await shelves.shelf()).find([key]))[key].value == b"1"

    async def test_a_backend_that_is_away_is_told(self, shelves: ShelfBackend, key: str) -> None:
        """Every call raises what is to be expected of a broker or a database that does not answer."""
        absent = await shelves.absent()
        calls: Sequence[Callable[[], Awaitable[object]]] = (
            lambda: absent.find([key]),
            lambda: absent.put(key, b"1", seconds=60),
            lambda: absent.remove([key]),
        )
        for call in calls:
            with pytest.raises((BrokerUnavailable, StoreUnavailable, NotRunning)):
                await call()


async def gone(shelf: Shelf, key: str) -> None:
    """Waits until nothing lies under a key."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if not await shelf.find([key]):
                return
            await asyncio.sleep(0.05)


async def passed(seconds: float) -> None:
    """Waits until so much time has passed on the machine's clock."""
    until = asyncio.get_running_loop().time() + seconds
    while True:
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            return
        await asyncio.sleep(left)
