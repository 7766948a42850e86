"""The tables beside the units: leases. See `torpor.testing.conformance.store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.testing.conformance.store import DEADLINE, StoreSuite, needs

if TYPE_CHECKING:
    from torpor.ports.store import Store


class LeaseConformance(StoreSuite):
    """One holder at a time, and epochs that only rise."""

    async def test_a_lease_is_exclusive(self, store: Store) -> None:
        """While one holds a lease another gets None; a lease of another name is another lease."""
        needs(store.promises.is_transactional, "is_transactional")
        assert await store.leases.acquire("keeper", "one", 60) is not None
        assert await store.leases.acquire("keeper", "another", 60) is None
        assert await store.leases.acquire("timers", "another", 60) is not None

    async def test_renewing_keeps_the_epoch(self, store: Store) -> None:
        """The holder renews its lease, even an expired one that nobody took, and keeps its epoch."""
        needs(store.promises.is_transactional, "is_transactional")
        epoch = await store.leases.acquire("keeper", "one", 0)
        assert await store.leases.acquire("keeper", "one", 60) == epoch
        assert await store.leases.acquire("keeper", "another", 60) is None

    async def test_a_takeover_raises_the_epoch(self, store: Store) -> None:
        """An expired lease goes to whoever asks, with a higher epoch each time it changes hands."""
        needs(store.promises.is_transactional, "is_transactional")
        epochs = [await store.leases.acquire("keeper", holder, 0) for holder in ("one", "another", "one")]

        assert None not in epochs
        assert epochs == sorted({epoch or 0 for epoch in epochs})

    async def test_a_released_lease_is_free_at_once(self, store: Store) -> None:
        """After its release another takes the lease with a higher epoch; only the holder can release it."""
        needs(store.promises.is_transactional, "is_transactional")
        first = await store.leases.acquire("keeper", "one", 60)
        await store.leases.release("keeper", "another")
        assert await store.leases.acquire("keeper", "another", 60) is None

        await store.leases.release("keeper", "one")
        await store.leases.release("never taken", "one")

        second = await store.leases.acquire("keeper", "another", 60)
        assert first is not None
        assert second is not None
        assert second > first

    async def test_of_many_at_once_one_gets_the_lease(self, store: Store) -> None:
        """A race for a lease has one winner."""
        needs(store.promises.is_transactional, "is_transactional")
        async with asyncio.timeout(DEADLINE):
            epochs = await asyncio.gather(*(store.leases.acquire("keeper", str(n), 60) for n in range(6)))

        assert sum(epoch is not None for epoch in epochs) == 1
