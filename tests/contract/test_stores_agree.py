"""The SQLite store and the memory store give the same answers to the same calls, whatever they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.store import MemoryStore
from torpor.adapters.sqlite.store import SqliteStore
from torpor.kernel.errors import LeaseLost
from torpor.kernel.parked import ParkedQuery
from torpor.testing.conformance.store import message, parked

if TYPE_CHECKING:
    from torpor.kernel.message import ParkedMessage
    from torpor.ports.store import Store
    from torpor.ports.unit import Unit

BINDING = st.sampled_from(["b", "c"])
KEY = st.sampled_from([None, "", "k", "l"])
ID = st.integers(1, 6).map(str)
NUMBER = st.integers(1, 8)
TIME = st.sampled_from([None, 0.0, 5.0, 50.0])
NUMBERS = st.lists(NUMBER, max_size=3, unique=True)

IN_UNIT = st.one_of(
    st.tuples(st.just("admit"), BINDING, st.lists(st.tuples(ID, KEY), max_size=4)),
    st.tuples(st.just("append"), st.lists(ID, max_size=3)),
    st.tuples(st.just("park"), BINDING, ID, KEY, TIME),
    st.tuples(st.just("claim"), NUMBER, st.booleans()),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("fall back")),
)
STEP = st.one_of(
    st.tuples(st.just("unit"), st.lists(IN_UNIT, max_size=8), st.booleans()),
    st.tuples(st.just("advance"), st.integers(0, 4), st.integers(1, 3)),
    st.tuples(st.just("trim"), st.sampled_from([0.0, 1e12]), st.sampled_from([0.0, 1e12])),
    st.tuples(st.just("redrive"), NUMBERS, st.sampled_from([0.0, 7.0])),
    st.tuples(st.just("discard"), NUMBERS),
    st.tuples(st.just("acquire"), st.sampled_from(["one", "two"]), st.sampled_from([0, 60])),
    st.tuples(st.just("release"), st.sampled_from(["one", "two"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=12))
def test_both_stores_give_the_same_answers(steps: list[Any]) -> None:
    """After each step of any history the answers and all that can be read are equal."""

    async def play(store: Store) -> list[Any]:
        await store.migrate({})
        await store.start()
        told: list[Any] = []
        for step in steps:
            told.append(await taken(store, step))
            told.append(await seen(store))
        await store.stop()
        return told

    clock = VirtualClock()
    assert asyncio.run(play(SqliteStore(":memory:", clock))) == asyncio.run(play(MemoryStore(clock)))


async def taken(store: Store, step: tuple[Any, ...]) -> Any:
    """What a step outside a unit, or a whole unit, answers."""
    told: Any = None
    match step:
        case ("unit", calls, is_kept):
            told = await in_unit(store, calls, is_kept=is_kept)
        case ("advance", ahead, epoch):
            entries = await store.outbox.pending(ahead)
            try:
                await store.outbox.advance({entry.shard: entry.position for entry in entries}, epoch)
            except LeaseLost:
                told = "lost"
        case ("trim", published, admitted):
            await store.outbox.trim(published=published, admitted=admitted)
        case ("redrive", numbers, at):
            told = await store.parking.redrive(ParkedQuery(numbers=numbers), at)
        case ("discard", numbers):
            told = await store.parking.discard(ParkedQuery(numbers=numbers))
        case ("acquire", holder, seconds):
            told = await store.leases.acquire("keeper", holder, seconds)
        case ("release", holder):
            await store.leases.release("keeper", holder)
    return told


async def in_unit(store: Store, calls: list[Any], *, is_kept: bool) -> list[Any]:
    """What the calls of one unit answer."""
    told: list[Any] = []
    has_mark = False
    async with store.unit() as unit:
        for call in calls:
            has_mark |= call[0] == "savepoint"
            if call[0] != "fall back" or has_mark:
                told.append(await called(unit, call))
        if is_kept:
            await unit.commit()
    return told


async def called(unit: Unit, call: tuple[Any, ...]) -> Any:
    """What one call inside a unit answers."""
    match call:
        case ("admit", binding, arrived):
            admission = await unit.admit(binding, [message(id, key=key) for id, key in arrived])
            return set(admission.fresh), set(admission.blocked)
        case ("append", ids):
            return await unit.append([message(id) for id in ids], [])
        case ("park", binding, id, key, due_at):
            return await unit.append([], [parked(binding, id, key=key, due_at=due_at)])
        case ("claim", number, is_again):
            is_mine = await unit.claim(number)
            if is_mine and is_again:
                again = parked("b", "again", key="k", due_at=5)
                again.number = number
                await unit.append([], [again])
            return is_mine
        case ("savepoint",):
            return await unit.savepoint()
        case _:
            return await unit.rollback_to_savepoint()


async def seen(store: Store) -> Any:
    """All that can be read."""
    pending = [entry.message.id for entry in await store.outbox.pending(100)]
    due = [[shown(row) for row in await store.parking.due(now, 100)] for now in (0, 5, 1000)]
    return pending, due, [shown(row) for row in await store.parking.list()], dict(await store.parking.count())


def shown(row: ParkedMessage) -> tuple[Any, ...]:
    """A parked row as values that can be compared."""
    return row.number, row.binding, row.message.id, row.message.key, row.due_at, row.attempts
