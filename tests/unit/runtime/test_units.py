"""Units: one transaction for a batch, and what happens when something in it fails."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest
from sqlalchemy import text

from torpor import Event, Message, Park, Retry, Service, Tx
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.sqlite.store import SqliteStore
from torpor.kernel.errors import StatementFailed, StoreUnavailable
from torpor.kernel.message import Delivery
from torpor.kernel.parked import ParkedQuery
from torpor.runtime.attempts import Work
from torpor.runtime.binding import bind
from torpor.runtime.context import Context, Health
from torpor.runtime.ids import new_id
from torpor.runtime.metrics import Metrics
from torpor.runtime.tx import Envelope
from torpor.runtime.unit import CAREFUL_UNITS, Units


class Counted(Event, topic="counted", key="key"):
    key: str
    amount: int


class Doubled(Event, topic="doubled", key="key"):
    key: str
    amount: int


class Bench:
    """A binding of one handler on a SQLite database in memory."""

    def __init__(self, handler: Callable[..., Awaitable[Any]], retry: Retry | None = None) -> None:
        service = Service("bench")
        service.on(Counted, retry=retry, name="count", publishes=[Doubled])(handler)
        binding = bind(service).subscribers[0]
        self.clock = VirtualClock()
        self.store = SqliteStore(":memory:", self.clock)
        self.commits: list[tuple[int, int]] = []  # outbox and parked rows
        self.health = Health(lambda *_: None)
        context = Context(
            clock=self.clock,
            metrics=Metrics("bench"),
            health=self.health,
            envelope=Envelope("bench", new_id=new_id, clock=self.clock),
            jitter=lambda: 0.5,
            committed=lambda rows: self.commits.append((rows.published, rows.parked)),
        )
        self.metrics = context.metrics.of("bench.count")
        self.units = Units(Work(binding.handled, Counted, binding.policies), self.store, context)

    async def __aenter__(self) -> Self:
        await self.store.migrate(
            {"0001_count.sql": "CREATE TABLE count (key text, amount integer NOT NULL CHECK (amount < 1000));"}
        )
        await self.store.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.store.stop()

    async def counted(self) -> list[tuple[str, int]]:
        async with self.store.unit() as unit:
            rows = await unit.statements.fetch("SELECT key, amount FROM count ORDER BY rowid", ())
        return [(row["key"], row["amount"]) for row in rows]

    async def published(self) -> list[Message]:
        return [entry.message for entry in await self.store.outbox.pending(1000)]

    async def parked(self) -> list[tuple[str, str, str]]:
        return [(row.message.id, row.state, row.reason) for row in await self.store.parking.list()]


async def insert(event: Counted, tx: Tx) -> Doubled:
    await tx.execute("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)
    return Doubled(key=event.key, amount=2 * event.amount)


async def insert_late(event: Counted, tx: Tx) -> None:
    tx.write("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)


def delivery(id: str, key: str = "a", amount: int = 1) -> Delivery:
    data = Counted(key=key, amount=amount).model_dump_json().encode()
    return Delivery(Message("counted", data, id=id, type="counted", key=key), token=id)


async def test_a_batch_is_one_commit() -> None:
    """Effects and messages of a whole batch are committed once, in order."""
    async with Bench(insert) as bench:
        await bench.units.run([delivery(str(n), amount=n) for n in range(5)])
        assert await bench.counted() == [("a", n) for n in range(5)]
        published = await bench.published()
        assert [Doubled.model_validate_json(message.data).amount for message in published] == [0, 2, 4, 6, 8]
        assert [message.attributes["causationid"] for message in published] == list("01234")
        assert bench.commits == [(5, 0)]
        assert bench.metrics.done == 5


async def test_a_message_has_one_effect_however_often_it_comes() -> None:
    """A message that comes again, in the same batch or a later one, is counted and has no second effect."""
    async with Bench(insert) as bench:
        await bench.units.run([delivery("1"), delivery("1"), delivery("2")])
        await bench.units.run([delivery("2")])
        assert len(await bench.counted()) == 2
        assert len(await bench.published()) == 2
        assert bench.metrics.duplicate == 2


@pytest.mark.parametrize("handler", [insert, insert_late])
async def test_a_failure_takes_back_only_its_own_work(handler: Callable[..., Awaitable[Any]]) -> None:
    """The neighbours of a failing message keep their effects; it is parked with the database's reason."""
    async with Bench(handler) as bench:
        batch = [delivery("1", "a", 1), delivery("2", "b", 5000), delivery("3", "c", 3)]
        await bench.units.run(batch)
        assert await bench.counted() == [("a", 1), ("c", 3)]
        ((id, state, reason),) = await bench.parked()
        assert (id, state) == ("2", "parked")
        assert "StatementFailed" in reason
        assert "CHECK" in reason
        assert "5000" not in reason


async def read_after(event: Counted, tx: Tx) -> None:
    if event.key == "reader":
        await tx.fetch("SELECT count(*) FROM count")
    else:
        tx.write("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)


async def test_a_reader_is_not_blamed_for_what_was_handed_over_before_it() -> None:
    """A late statement that is refused when a later message reads parks its own message, and no attempt is counted for
    the reader, though it may have only one."""
    async with Bench(read_after, Retry(attempts=1)) as bench:
        await bench.units.run([delivery("1", "a", 1), delivery("2", "b", 5000), delivery("3", "reader")])
        assert [(id, state) for id, state, _ in await bench.parked()] == [("2", "parked")]
        assert await bench.counted() == [("a", 1)]
        assert bench.metrics.done == 2


async def swallow(event: Counted, tx: Tx) -> None:
    tx.write("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)
    if event.key == "reader":
        with contextlib.suppress(StatementFailed):
            await tx.fetch("SELECT count(*) FROM count")


async def test_a_refusal_that_a_later_handler_hides_is_not_lost() -> None:
    """A handler that goes on after a refusal of what was handed over before it does not hide that refusal."""
    async with Bench(swallow, Retry(attempts=1)) as bench:
        await bench.units.run([delivery("1", "b", 5000), delivery("2", "reader")])
        assert [(id, state) for id, state, _ in await bench.parked()] == [("1", "parked")]
        assert await bench.counted() == [("reader", 1)]


async def write_or_add(event: Counted, tx: Tx) -> None:
    if event.key == "session":
        await tx.session.exec(text("INSERT INTO count (key, amount) SELECT 'session', count(*) FROM count"))
    else:
        tx.write("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)


async def test_a_session_sees_what_was_handed_over_before_it() -> None:
    """A handler's session comes after the late statements of the messages before it."""
    async with Bench(write_or_add) as bench:
        await bench.units.run([delivery("1", "a"), delivery("2", "b"), delivery("3", "session"), delivery("4", "c")])
        assert await bench.counted() == [("a", 1), ("b", 1), ("session", 2), ("c", 1)]
        assert bench.metrics.failed == 0


async def test_later_messages_of_a_parked_key_wait_behind_it_in_order() -> None:
    """While a key has a parked message its later ones queue behind it, and other keys go on."""
    async with Bench(insert) as bench:
        await bench.units.run([delivery("1", "a", 5000), delivery("2", "a"), delivery("3", "b")])
        await bench.units.run([delivery("4", "a"), delivery("5", "b")])
        assert await bench.counted() == [("b", 1), ("b", 1)]
        assert [(id, state) for id, state, _ in await bench.parked()] == [
            ("1", "parked"),
            ("2", "waiting"),
            ("4", "waiting"),
        ]


async def test_attempts_follow_the_policy() -> None:
    """A handler that fails at first is tried again, from a clean transaction each time."""
    failures = iter([ValueError("not yet"), ValueError("not yet"), None])

    async def flaky(event: Counted, tx: Tx) -> None:
        await tx.execute("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)
        if (error := next(failures, None)) is not None:
            raise error

    async with Bench(flaky, Retry(attempts=3)) as bench:
        await bench.units.run([delivery("1")])
        assert await bench.counted() == [("a", 1)]
        assert await bench.parked() == []


async def test_a_policy_may_give_up_at_once() -> None:
    """An exception in `give_up_on` parks at the first failure that is attributed to its message."""
    calls = []

    async def hopeless(event: Counted) -> None:
        calls.append(event.key)
        raise LookupError("no such thing")

    async with Bench(hopeless, Retry(attempts=5, give_up_on=(LookupError,))) as bench:
        await bench.units.run([delivery("1")])
        assert len(calls) == 1
        assert (await bench.parked())[0][2] == "LookupError: no such thing"


@pytest.mark.parametrize("attempts", [1, 2, 5])
@pytest.mark.parametrize("neighbours", [0, 3])
async def test_a_failing_message_is_handled_as_often_as_its_policy_says(attempts: int, neighbours: int) -> None:
    """The attempt that had no savepoint counts; neighbours in the batch do not change the number."""
    calls: list[str] = []

    async def hopeless(event: Counted) -> None:
        calls.append(event.key)
        if event.key == "bad":
            raise LookupError("no such thing")

    async with Bench(hopeless, Retry(attempts=attempts)) as bench:
        batch = [delivery(str(n), f"good-{n}") for n in range(neighbours)]
        await bench.units.run([*batch, delivery("bad", "bad")])
        assert calls.count("bad") == attempts
        (row,) = await bench.store.parking.list()
        assert (row.message.id, row.attempts) == ("bad", attempts)


async def test_a_handler_without_a_transaction_is_not_called_again_for_a_neighbour() -> None:
    """It has left nothing in the unit that a neighbour's failure could take back: each is called by its own policy."""
    calls: list[int] = []

    async def double(event: Counted) -> Doubled:
        calls.append(event.amount)
        if event.amount == 2:
            raise ValueError(event.amount)
        return Doubled(key=event.key, amount=2 * event.amount)

    async with Bench(double, Retry(attempts=2)) as bench:
        await bench.units.run([delivery(str(n), key=str(n), amount=n) for n in range(4)])
        assert calls == [0, 1, 2, 2, 3]
        assert [Doubled.model_validate_json(message.data).amount for message in await bench.published()] == [0, 2, 6]
        assert [(id, state) for id, state, _ in await bench.parked()] == [("2", "parked")]


async def test_later_attempts_wait_in_the_database() -> None:
    """After the attempts at once come those after waits, with what follows on the key queued behind; then it parks."""
    calls: list[str] = []

    async def failing(event: Counted) -> None:
        calls.append(event.key)
        raise LookupError("not yet")

    async with Bench(failing, Retry(attempts=2, later=[10, 100])) as bench:
        await bench.units.run([delivery("1", "a"), delivery("2", "a")])
        assert len(calls) == 2
        for wait in (5, 50):  # the jitter of this bench is a half
            assert await due(bench) == []
            await bench.clock.advance(wait)
            assert await due(bench) == ["1"]
            row = (await bench.store.parking.list())[0]
            await bench.units.run([Delivery(row.message, parked=row.number, attempts=row.attempts)])
        assert len(calls) == 4
        assert [(id, state) for id, state, _ in await bench.parked()] == [("1", "parked"), ("2", "waiting")]


async def due(bench: Bench) -> list[str]:
    return [row.message.id for row in await bench.store.parking.due(bench.clock.time(), 10)]


async def test_what_comes_again_takes_back_nobody_elses_work() -> None:
    """A message that fails once more is tried in a unit of its own: its neighbours are handled once, and go on."""
    calls: list[int] = []

    async def strict(event: Counted, tx: Tx) -> None:
        calls.append(event.amount)
        if event.amount == 7:
            raise ValueError("never")
        await insert(event, tx)

    async with Bench(strict, Retry(attempts=1, later=[10, 10])) as bench:
        await bench.units.run([delivery("7", "a", 7)])
        for number in range(100, 100 + CAREFUL_UNITS):  # until the binding takes no savepoints any more
            await bench.units.run([delivery(str(number), "b", number)])
        calls.clear()
        (row,) = await bench.store.parking.list()
        again = Delivery(row.message, parked=row.number, attempts=row.attempts)
        assert await bench.units.run([delivery("1", "b", 1), again, delivery("2", "c", 2), delivery("8", "a", 8)]) == 4
        assert calls == [7, 1, 2]
        assert (await bench.counted())[-2:] == [("b", 1), ("c", 2)]
        assert [(id, state) for id, state, _ in await bench.parked()] == [("7", "due"), ("8", "waiting")]


async def test_undecodable_bytes_are_parked_whole() -> None:
    """Bytes that are no event are parked at once with the reason, and disturb no other message."""
    calls = []

    async def handle(event: Counted) -> None:
        calls.append(event.amount)

    async with Bench(handle) as bench:
        bad = Delivery(Message("counted", b"\xff{nonsense", id="1", type="counted", key="a"))
        wrong = Delivery(Message("counted", b'{"key": "a"}', id="2", type="counted", key="b"))
        foreign = Delivery(Message("counted", b"{}", id="3", type="other", key="c"))
        await bench.units.run([bad, wrong, foreign, delivery("4", "d", 4)])
        assert calls == [4]
        reasons = {id: reason for id, _, reason in await bench.parked()}
        assert "Counted does not fit" in reasons["1"]
        assert "amount: Field required" in reasons["2"]
        assert "carries 'other'" in reasons["3"]
        assert (await bench.store.parking.list())[0].message.data == b"\xff{nonsense"


async def test_an_unreadable_envelope_is_parked_with_its_fault() -> None:
    """What the adapter could not read is parked with the adapter's reason."""
    async with Bench(insert) as bench:
        await bench.units.run([Delivery(Message("counted", b"?", id="1", type=""), fault="no specversion")])
        assert await bench.parked() == [("1", "parked", "no specversion")]


async def test_a_handler_may_park() -> None:
    """`Park` sets a message aside at once, without its effects."""

    async def picky(event: Counted, tx: Tx) -> Doubled | Park:
        await tx.execute("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)
        return Park("not for us")

    async with Bench(picky) as bench:
        await bench.units.run([delivery("1")])
        assert await bench.counted() == []
        assert await bench.parked() == [("1", "parked", "not for us")]


async def test_a_redriven_message_leaves_the_parked_rows_with_its_effect() -> None:
    """A redriven message is handled once; failing again, it keeps its place before those that wait."""
    limit = {"amount": 0}

    async def strict(event: Counted, tx: Tx) -> None:
        if event.amount > limit["amount"]:
            raise ValueError("too much")
        await tx.execute("INSERT INTO count (key, amount) VALUES ($1, $2)", event.key, event.amount)

    async with Bench(strict, Retry(attempts=1)) as bench:
        await bench.units.run([delivery("1", "a", 7), delivery("2", "a", 8)])
        await redrive_first(bench)
        assert [id for id, _, _ in await bench.parked()] == ["1", "2"]
        limit["amount"] = 10
        await redrive_first(bench)
        assert await bench.counted() == [("a", 7)]
        due = await bench.store.parking.due(bench.clock.time(), 10)
        assert [row.message.id for row in due] == ["2"]


async def redrive_first(bench: Bench) -> None:
    first = (await bench.store.parking.list())[0]
    await bench.store.parking.redrive(ParkedQuery(numbers=[first.number]), bench.clock.time())
    for row in await bench.store.parking.due(bench.clock.time(), 10):
        await bench.units.run([Delivery(row.message, parked=row.number, attempts=row.attempts)])


async def test_an_event_that_is_not_declared_is_refused() -> None:
    """Publishing what the declaration does not name fails the handler, and says how to declare it."""

    async def sly(event: Counted, tx: Tx) -> None:
        tx.publish(event)

    async with Bench(sly) as bench:
        bench.units._work.handled.publishes = frozenset()  # as if its code did not show it
        await bench.units.run([delivery("1")])
        assert "publishes=[Counted]" in (await bench.parked())[0][2]


async def test_a_tx_is_closed_with_its_handler() -> None:
    """Work that a handler leaves behind cannot touch the transaction any more, and is told so."""
    kept: list[Tx] = []

    async def leaky(event: Counted, tx: Tx) -> None:
        kept.append(tx)

    async with Bench(leaky) as bench:
        await bench.units.run([delivery("1")])
        with pytest.raises(Exception, match="used its Tx after it had returned"):
            await kept[0].execute("DELETE FROM count")


class Outage:
    """A store that is away for its first units."""

    def __init__(self, store: SqliteStore, outages: int) -> None:
        self._store = store
        self.outages = outages

    def unit(self) -> Any:
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("the database is away")
        return self._store.unit()


class Refusing:
    """A store whose units refuse a message when they append, as a whole."""

    def __init__(self, store: SqliteStore, refused: str) -> None:
        self._store = store
        self._refused = refused

    def unit(self) -> Any:
        return self._Unit(self._store.unit(), self._refused)

    class _Unit:
        def __init__(self, unit: Any, refused: str) -> None:
            self._unit = unit
            self._refused = refused

        def __getattr__(self, name: str) -> Any:
            return getattr(self._unit, name)

        async def __aenter__(self) -> Any:
            await self._unit.__aenter__()
            return self

        async def __aexit__(self, *error: object) -> None:
            await self._unit.__aexit__(*error)

        async def append(self, messages: Any, parked: Any, timers: Any = ()) -> None:
            if any(message.attributes["causationid"] == self._refused for message in messages):
                raise StatementFailed("the outbox refuses this row")
            await self._unit.append(messages, parked, timers)


async def test_an_error_of_the_whole_transaction_is_narrowed_down_to_its_message() -> None:
    """A batch whose transaction fails as a whole is halved until the one that causes it is parked alone."""
    async with Bench(insert) as bench:
        bench.units._store = Refusing(bench.store, "3")  # type: ignore[assignment]  # another store
        await bench.units.run([delivery(str(n), f"key-{n}", n) for n in range(7)])
        assert sorted(await bench.counted()) == [(f"key-{n}", n) for n in range(7) if n != 3]
        assert await bench.parked() == [("3", "parked", "StatementFailed: the outbox refuses this row")]


async def test_a_lost_database_is_waited_for() -> None:
    """A unit whose database is away is tried again when it is back, and no attempt is counted."""
    async with Bench(insert) as bench:
        bench.units._store = Outage(bench.store, 3)  # type: ignore[assignment]  # another store
        running = asyncio.ensure_future(bench.units.run([delivery("1")]))
        while not running.done():
            await bench.clock.advance(1)
        assert await bench.counted() == [("a", 1)]
        assert bench.metrics.failed == 0
        assert bench.health.is_good
