"""The messages that wait for their time. See `torpor.testing.conformance.store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.message import Message, Timer
from torpor.testing.conformance.store import StoreSuite, needs

if TYPE_CHECKING:
    from torpor.ports.store import Store


class TimersConformance(StoreSuite):
    """Timers: set, replaced, cancelled, due in their order, and all with their unit."""

    async def test_a_timer_comes_back_whole(self, store: Store) -> None:
        """Every field is read as it was set."""
        needs(store.promises.is_transactional, "is_transactional")
        whole = Message("t", b"\x00\xff", id="1", type="y", key="k", attributes={"source": 'é "'})
        await set_timers(store, Timer("n", 77.25, whole))
        (timer,) = await store.timers.due(100, 10)
        assert (timer.name, timer.due_at, timer.message) == ("n", 77.25, whole)

    async def test_timers_are_due_in_the_order_of_their_times(self, store: Store) -> None:
        """Only those whose time has come are due, the first first; the next time is told, due or not."""
        needs(store.promises.is_transactional, "is_transactional")
        assert await store.timers.next_due() is None
        await set_timers(store, timer("c", 30), timer("a", 20), timer("b", 10), timer("d", 20))
        assert await due(store, 9) == []
        assert await due(store, 20) == ["b", "a", "d"]
        assert await due(store, 100, limit=2) == ["b", "a"]
        assert await store.timers.next_due() == 10

    async def test_a_timer_takes_the_place_of_one_of_its_name(self, store: Store) -> None:
        """A name is set once: the later time and message count."""
        needs(store.promises.is_transactional, "is_transactional")
        await set_timers(store, timer("a", 10))
        await set_timers(store, timer("a", 50))
        assert await due(store, 49) == []
        assert await due(store, 50) == ["a"]
        await set_timers(store, timer("b", 5), timer("b", 6))
        assert await store.timers.next_due() == 6

    async def test_a_timer_is_cancelled_once(self, store: Store) -> None:
        """Cancelling takes it out, and tells whether it was there; a wrong time leaves it."""
        needs(store.promises.is_transactional, "is_transactional")
        await set_timers(store, timer("a", 10))
        assert not await cancelled(store, "a", 11)
        assert await cancelled(store, "a", 10)
        assert not await cancelled(store, "a")
        await set_timers(store, timer("b", 10))
        assert await cancelled(store, "b")
        assert await store.timers.next_due() is None

    async def test_timers_belong_to_their_unit(self, store: Store) -> None:
        """What is set or cancelled in a unit that is not committed, or behind a savepoint, is taken back."""
        needs(store.promises.is_transactional, "is_transactional")
        await set_timers(store, timer("kept", 10))
        async with store.unit() as unit:
            await unit.append([], [], [timer("lost", 20)])
            await unit.cancel("kept")
        assert await due(store, 100) == ["kept"]
        async with store.unit() as unit:
            await unit.append([], [], [timer("first", 30)])
            await unit.savepoint()
            await unit.append([], [], [timer("second", 40)])
            assert await unit.cancel("kept")
            await unit.rollback_to_savepoint()
            assert await unit.cancel("first")
            await unit.commit()
        assert await due(store, 100) == ["kept"]

    async def test_a_timer_survives_a_restart(self, store: Store) -> None:
        """What waits for its time waits on when the process has ended."""
        needs(store.promises.is_durable, "is_durable")
        await set_timers(store, timer("a", 10))
        await store.stop()
        await store.start()
        assert await due(store, 10) == ["a"]


def timer(name: str, due_at: float) -> Timer:
    """A timer with a message of its name."""
    return Timer(name, due_at, Message("t", b"{}", id=name, type="t"))


async def set_timers(store: Store, *timers: Timer) -> None:
    """Sets timers in one unit."""
    async with store.unit() as unit:
        await unit.append([], [], timers)
        await unit.commit()


async def cancelled(store: Store, name: str, due_at: float | None = None) -> bool:
    """Cancels a timer in a unit of its own."""
    async with store.unit() as unit:
        was_there = await unit.cancel(name, due_at)
        await unit.commit()
    return was_there


async def due(store: Store, now: float, *, limit: int = 10) -> list[str]:
    """The names of the timers that are due."""
    return [timer.name for timer in await store.timers.due(now, limit)]
