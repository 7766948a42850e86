"""What a unit sends to PostgreSQL: few exchanges, and the same whether it goes with literals or with parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.integration.postgres_server import administer
from tests.integration.postgres_wire import Proxy
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.kernel.errors import StatementFailed
from torpor.kernel.message import Message
from torpor.testing.conformance.store import OWN, committed, message, parked, pending_ids
from torpor.testing.conformance.store_sql import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.integration.postgres_server import PostgresServer

ODD = [
    "",
    "'",
    "\\",
    '"',
    "{a,b}",
    "NULL",
    "$1",
    "{0}",
    "\x00",
    "\x1a",
    "\x1a;",
    "\x1a0",
    "a\nb",
    "é\ud800",
    "E'\\x41'",
]
INSERT = "INSERT INTO note (id) VALUES ($1)"


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    """Stands before the server, and counts."""
    proxy = Proxy(postgres.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def make(postgres: PostgresServer, proxy: Proxy) -> AsyncIterator[Callable[..., Any]]:
    """Makes a started store on a new database, whose next unit of the binding `b` is a plain one."""
    made: list[PostgresStore] = []

    async def store_of(**options: Any) -> PostgresStore:
        name = f"exchanges_{uuid4().hex}"
        await administer(postgres.url(), f"CREATE DATABASE {name}")
        made.append(PostgresStore(postgres.url(name, port=proxy.port), SystemClock(), PostgresOptions(**options)))
        await made[-1].migrate(OWN)
        await made[-1].start()
        await handled(made[-1], [message("first")])
        return made[-1]

    yield store_of
    for store in made:
        await store.stop()


async def handled(store: PostgresStore, messages: Sequence[Message]) -> tuple[set[str], set[str]]:
    """Handles messages as a unit does, each with a statement and an event; returns what was fresh and what blocked."""
    async with store.unit() as unit:
        admission = await unit.admit("b", messages)
        for _ in admission.fresh:
            await run(unit, INSERT, uuid4().hex)
        await unit.append([one for one in messages if one.id in admission.fresh], [])
        await unit.commit()
    return set(admission.fresh), set(admission.blocked)


@pytest.mark.parametrize("count", [1, 2, 8])
async def test_a_unit_adds_two_exchanges_to_its_statements(make: Callable[..., Any], proxy: Proxy, count: int) -> None:
    """A unit begins and admits in one exchange, and appends and commits in another."""
    store = await make(connections=1)
    before = proxy.exchanges

    await handled(store, [message(str(number), key=str(number)) for number in range(count)])

    assert proxy.exchanges - before == count + 2
    assert await pending_ids(store) == ["first", *map(str, range(count))]


async def test_a_unit_that_only_publishes_is_one_exchange(make: Callable[..., Any], proxy: Proxy) -> None:
    """A unit without a statement begins, appends and commits at once."""
    store = await make(connections=1)
    before = proxy.exchanges

    await committed(store, message("1", key="k"))

    assert proxy.exchanges - before == 1
    assert await pending_ids(store) == ["first", "1"]


@pytest.mark.parametrize("is_pooled", [False, True])
@pytest.mark.parametrize("count", [1, len(ODD)])
async def test_any_text_goes_as_a_literal(make: Callable[..., Any], count: int, *, is_pooled: bool) -> None:
    """Quotes, backslashes, separators and what cannot be stored come back from ids, keys, types and attributes."""
    store = await make(is_pooled=is_pooled)
    texts = [ODD[1:], ODD][count == 1]  # two empty ids would be one
    whole = [Message("t", text.encode("utf-8", "replace"), id=f"i{text}", type=text, key=text) for text in texts]
    for one in whole:
        one.attributes = {"subject": one.type, one.type or "x": "y"}
    parts = [whole[start : start + count] for start in range(0, len(whole), count)]
    for part in parts:
        assert await handled(store, part) == ({one.id for one in part}, set())
    for part in parts:
        assert await handled(store, part) == (set(), set())

    assert [entry.message for entry in await store.outbox.pending(100)][1:] == whole


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_what_is_parked_blocks_its_queue_alone(make: Callable[..., Any], *, is_pooled: bool) -> None:
    """Once a message is parked its key is blocked in the next unit, and units of other keys go on as before."""
    store = await make(is_pooled=is_pooled)
    await committed(store, parked=[parked("b", "1", key="k"), parked("other", "2", key="free")])

    assert await handled(store, [message("3", key="free")]) == ({"3"}, set())
    assert await handled(store, [message("4", key="free"), message("5", key="k")]) == ({"4", "5"}, {"k"})
    assert await handled(store, [message("6", key="k")]) == ({"6"}, {"k"})


@pytest.mark.parametrize("keys", [["k"], ["free", "k"]])
async def test_one_id_is_blocked_by_any_of_its_keys(make: Callable[..., Any], keys: list[str]) -> None:
    """A unit of one id, which is entered by a statement of its own, sees what is parked; twice one id is one."""
    store = await make()
    await committed(store, parked=[parked("b", "1", key="k")])

    assert await handled(store, [message("2", key=key) for key in keys]) == ({"2"}, {"k"})
    assert await handled(store, [message("3")]) == ({"3"}, set())
    assert await handled(store, [message("3")]) == (set(), set())


async def test_a_key_that_is_blocked_costs_the_others_nothing(make: Callable[..., Any], proxy: Proxy) -> None:
    """While another key of the binding is blocked, a unit still begins and admits in one exchange."""
    store = await make(connections=1)
    await committed(store, parked=[parked("b", "1", key="k")])
    before = proxy.exchanges

    await handled(store, [message("2", key="free")])

    assert proxy.exchanges - before == 3


async def test_an_append_that_is_refused_with_the_commit_leaves_nothing(make: Callable[..., Any]) -> None:
    """The unit fails as one whose append was refused, nothing of it stays, and its connection serves the next."""
    store = await make(connections=1)
    async with store.unit() as unit:
        await run(unit, INSERT, "kept?")
        await unit.append([message("1")], [])
        with pytest.raises(StatementFailed):
            await run(unit, INSERT, "kept?")
        with pytest.raises(StatementFailed, match="torpor_outbox"):
            await unit.commit()

    assert await handled(store, [message("2")]) == ({"2"}, set())
    assert await pending_ids(store) == ["first", "2"]


async def test_what_falls_back_to_a_savepoint_is_not_appended(make: Callable[..., Any]) -> None:
    """An append before a savepoint stays, and one behind it goes when the unit falls back."""
    store = await make()
    async with store.unit() as unit:
        await unit.append([message("1")], [])
        await unit.savepoint()
        await unit.append([message("2")], [])
        await unit.rollback_to_savepoint()
        await unit.append([message("3")], [])
        await unit.append([message("4")], [])
        await unit.commit()

    assert await pending_ids(store) == ["first", "1", "3", "4"]
