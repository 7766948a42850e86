"""Two replicas that keep answers on one shelf, with everything in every order: who has written reads it."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from torpor import Cached, Service, Tx
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.shelf import MemoryShelf
from torpor.kernel.errors import StoreUnavailable
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.ports.shelf import Placed

CLIENTS, STEPS = 6, 12


class Jittery:
    """A shelf whose calls take turns with others as chance has it, and which forgets what it likes."""

    def __init__(self, chance: random.Random, *, forgets: float) -> None:
        self._shelf = MemoryShelf(VirtualClock())
        self.promises = self._shelf.promises
        self._chance = chance
        self._forgets = forgets

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        await self._wait()
        if self._chance.random() < self._forgets:
            await self._shelf.remove([self._chance.choice(keys)])
        found = await self._shelf.find(keys)
        await self._wait()
        return found

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        await self._wait()
        given = await self._shelf.put(key, value, seconds=seconds, revision=revision)
        await self._wait()
        return given

    async def remove(self, keys: Sequence[str]) -> None:
        await self._wait()
        await self._shelf.remove(keys)
        await self._wait()

    async def _wait(self) -> None:
        await turns(self._chance)


class World:
    """One value, which replicas read and write, and what was acknowledged of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.value = 0
        self.acknowledged = 0
        self.hits = 0

    def replica(self) -> Service:
        """A service that reads and writes the value."""
        service = Service("world")

        @service.get("/value", rules=[Cached(600, tags=["value"])])
        async def read() -> int:
            await turns(self.chance)
            value = self.value
            await turns(self.chance)
            return value

        @service.post("/value")
        async def write(tx: Tx) -> int:
            tx.forget("value")
            await turns(self.chance)
            self.value += 1
            return self.value

        return service

    async def client(self, shops: Sequence[TestShop]) -> None:
        """Reads and writes by chance, at one replica and at the other."""
        for _ in range(STEPS):
            shop = self.chance.choice(shops)
            if self.chance.random() < 0.3:
                written = (await shop.post("/value")).json()
                self.acknowledged = max(self.acknowledged, written)
            else:
                known = self.acknowledged
                answer = await shop.get("/value")
                self.hits += "age" in answer.headers
                assert answer.json() >= known, "a read that began after a write was answered has not seen it"
            await turns(self.chance)


async def turns(chance: random.Random) -> None:
    """Lets others go first, a few times."""
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("forgets", [0.0, 0.1])
async def test_who_has_written_reads_it(forgets: float) -> None:
    """Whatever the order, also when what was kept is lost: a read that begins when a write was answered sees it, at
    any replica, and many reads are spared."""
    hits = 0
    for seed in range(12):
        world = World(seed)
        shelf: Any = Jittery(world.chance, forgets=forgets)
        async with AsyncExitStack() as stack:
            shops = [await stack.enter_async_context(TestShop(world.replica())) for _ in range(2)]
            for shop in shops:
                assert shop.hosts[0].shelf is not None
                shop.hosts[0].shelf._shelf = shelf
            await asyncio.gather(*(world.client(shops) for _ in range(CLIENTS)))
        hits += world.hits
    assert hits > 30


async def test_an_unsure_removal_is_seen_by_its_own_process() -> None:
    """While the shelf refuses to remove, the process that has written gives no answer from before."""

    class Stubborn(Jittery):
        async def remove(self, keys: Sequence[str]) -> None:
            raise StoreUnavailable("It is full.")

    world = World(1)
    async with TestShop(world.replica()) as shop:
        assert shop.hosts[0].shelf is not None
        shop.hosts[0].shelf._shelf = Stubborn(world.chance, forgets=0.0)  # type: ignore[assignment]
        for number in range(3):
            assert [(await shop.get("/value")).json() for _ in range(2)] == [number, number]
            await shop.post("/value")
            await shop.clock.advance(5)
