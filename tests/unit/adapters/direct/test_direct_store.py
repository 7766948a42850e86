"""A service without a database: what is appended is published at the commit, and nothing is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.direct.store import DirectStore
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.kernel.errors import BrokerUnavailable, Rejected, StatementFailed
from torpor.testing.conformance.store import message, parked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def hub() -> MemoryHub:
    """What the broker has been given."""
    return MemoryHub(max_payload=100)


@pytest.fixture
async def store(hub: MemoryHub) -> AsyncIterator[DirectStore]:
    """The store of the service `orders`."""
    broker = MemoryBroker(hub)
    await broker.start()
    await broker.declare(["t", "orders.parked"], [])
    store = DirectStore(broker, "orders")
    assert await store.migrate({"0001_x.sql": "CREATE TABLE x (id TEXT)"}) == []
    await store.start()
    await store.ping()
    yield store
    await store.stop()
    await broker.stop()


async def test_messages_are_published_at_the_commit_and_in_order(store: DirectStore, hub: MemoryHub) -> None:
    """Nothing is published before the commit; then all is, messages first, in the order of appending."""
    async with store.unit() as unit:
        await unit.append([message("1")], [parked("orders.x", "3", key="k")])
        await unit.append([message("2")], [])
        assert hub.published == []
        await unit.commit()

    assert [(sent.topic, sent.id) for sent in hub.published] == [
        ("t", "1"),
        ("t", "2"),
        ("orders.parked", "3/orders.x"),
    ]


async def test_a_parked_message_keeps_all_that_is_needed_to_send_it_back(store: DirectStore, hub: MemoryHub) -> None:
    """Bytes, key, type and attributes are the original's; the binding, reason, topic and id are told beside them."""
    row = parked("orders.x", "1", key="k")
    async with store.unit() as unit:
        await unit.append([], [row])
        await unit.commit()

    (sent,) = hub.published
    assert (sent.data, sent.key, sent.type) == (row.message.data, "k", row.message.type)
    assert sent.attributes == {
        **row.message.attributes,
        "torporbinding": "orders.x",
        "torporreason": "broken",
        "torportopic": "t",
        "torporid": "1",
    }


async def test_two_bindings_may_park_the_same_message(store: DirectStore, hub: MemoryHub) -> None:
    """A broker that drops copies by their id keeps both."""
    async with store.unit() as unit:
        await unit.append([], [parked("orders.x", "1"), parked("orders.y", "1")])
        await unit.commit()

    assert [sent.attributes["torporbinding"] for sent in hub.published] == ["orders.x", "orders.y"]


async def test_a_unit_without_a_commit_publishes_nothing(store: DirectStore, hub: MemoryHub) -> None:
    """Leaving the unit forgets what it held back, and an empty unit asks nothing of the broker."""
    async with store.unit() as unit:
        await unit.append([message("1")], [parked("orders.x", "2")])
    hub.is_down = True
    async with store.unit() as unit:
        await unit.commit()

    assert hub.published == []


async def test_the_savepoint_takes_back_what_came_after_it(store: DirectStore, hub: MemoryHub) -> None:
    """Messages and parked rows after the mark are taken back, and the mark can be moved."""
    async with store.unit() as unit:
        await unit.append([message("1")], [])
        await unit.savepoint()
        for id in ("a", "b"):
            await unit.append([message(id)], [parked("orders.x", id)])
            await unit.rollback_to_savepoint()
        await unit.append([message("2")], [])
        await unit.savepoint()
        await unit.append([message("c")], [])
        await unit.rollback_to_savepoint()
        await unit.commit()

    assert [sent.id for sent in hub.published] == ["1", "2"]


async def test_every_delivery_is_new(store: DirectStore) -> None:
    """There is no inbox: the same id is new again and again, and no key is blocked."""
    for _ in range(2):
        async with store.unit() as unit:
            admission = await unit.admit("orders.x", [message("1", key="k"), message("2")])
            assert set(admission.fresh) == {"1", "2"}
            assert list(admission.blocked) == []
            assert not await unit.claim(1)
            await unit.append([], [parked("orders.x", "1", key="k")])
            await unit.commit()


async def test_a_silent_broker_fails_the_commit(store: DirectStore, hub: MemoryHub) -> None:
    """The commit raises BrokerUnavailable, so the delivery is not acknowledged and comes again."""
    hub.is_down = True
    async with store.unit() as unit:
        await unit.append([message("1")], [])
        with pytest.raises(BrokerUnavailable):
            await unit.commit()


async def test_a_refused_message_fails_the_commit(store: DirectStore) -> None:
    """The commit raises the broker's refusal."""
    too_large = message("1")
    too_large.data = bytes(101)
    async with store.unit() as unit:
        await unit.append([message("0"), too_large], [])
        with pytest.raises(Rejected, match="too large"):
            await unit.commit()


async def test_statements_say_what_to_set(store: DirectStore) -> None:
    """A handler that asks for SQL is told which setting gives it a database."""
    async with store.unit() as unit:
        for call in (
            lambda: unit.statements.execute("SELECT 1", ()),
            lambda: unit.statements.fetch("SELECT 1", ()),
            lambda: unit.statements.execute_many("SELECT 1", [()]),
        ):
            with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
                await call()
        with pytest.raises(StatementFailed, match="TORPOR_DATABASE_URL"):
            unit.statements.session()


async def test_the_tables_are_empty_and_every_lease_is_free(store: DirectStore) -> None:
    """The relay finds nothing to publish, the operator nothing parked, and whoever asks gets a lease."""
    assert list(await store.outbox.pending(10)) == []
    await store.outbox.advance({0: 5}, 7)
    await store.outbox.trim(published=1e12, admitted=1e12)
    assert (await store.outbox.state()).kept == 0
    assert list(await store.parking.due(1e12, 10)) == list(await store.parking.list()) == []
    assert await store.parking.inspect(1) is None
    assert dict(await store.parking.count()) == {}
    assert [await store.leases.acquire("keeper", holder, 60) for holder in ("one", "another")] == [1, 1]
    await store.leases.release("keeper", "one")
    assert repr(store) == "<DirectStore orders.parked>"
    promises = store.promises
    assert (promises.is_durable, promises.is_transactional, promises.runs_sql) == (False, False, False)
