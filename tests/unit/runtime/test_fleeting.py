"""Fleeting events, on memory: told after the commit, heard once at most, kept nowhere."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from torpor import Batch, Event, Message, Order, Pause, Retry, Service, StepKey, Tx, event
from torpor.assembly import assemble
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.message import Message as Sent
from torpor.runtime.binding import bind
from torpor.runtime.settings import Settings
from torpor.runtime.topology import topology_of
from torpor.testing import TestShop

TABLES = {"0001_seen.sql": "CREATE TABLE seen (n INTEGER NOT NULL CHECK (n < 100))"}


class Tick(Event, topic="ticks", key="symbol", durable=False):
    symbol: str
    n: int


class Order1(Event, topic="orders", key="id"):
    id: str


@event(topic="presence", durable=False)
class Presence(msgspec.Struct):
    user: str


class Lasting(Event, topic="ticks"):
    n: int


async def test_what_a_unit_publishes_is_told_after_its_commit() -> None:
    """A route's and a handler's fleeting events go out once committed, past the outbox; those of an abort never."""
    market, heard = Service("market", migrations=TABLES), []

    @market.post("/ticks/{n}")
    async def make(n: int, tx: Tx) -> None:
        tx.publish(Tick(symbol="a", n=n))
        tx.publish(Tick(symbol="a", n=n + 1))
        await tx.execute("INSERT INTO seen VALUES ($1)", n)

    @market.on(Order1, retry=Retry(attempts=2))
    async def trade(event: Order1, tx: Tx) -> Tick:
        tx.publish(Tick(symbol="b", n=8))
        if event.id == "bad":
            raise ValueError(event.id)
        return Tick(symbol="b", n=9)

    @market.on(Tick)
    async def show(event: Tick) -> None:
        heard.append(event.n)

    async with TestShop(market) as shop:
        await shop.post("/ticks/1")
        with pytest.raises(Exception, match="CHECK"):
            await shop.post("/ticks/100")
        await shop.publish(Order1(id="bad"))
        await shop.publish(Order1(id="good"))
        await shop.settle()
        assert heard == [1, 2, 8, 9]
        assert shop.published(Tick) == [Tick(symbol=s, n=n) for s, n in (("a", 1), ("a", 2), ("b", 8), ("b", 9))]
        assert (await shop.hosts[0].store.outbox.state()).kept == 0
        assert shop.hosts[0].metrics.told == 4


async def test_a_failing_listener_is_counted_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises, and bytes that do not fit, are logged; nothing is parked, and the next one is handled."""
    market, heard = Service("market"), []

    @market.on(Tick)
    async def show(event: Tick) -> None:
        heard.append(event.n)
        if event.n == 1:
            raise ValueError("no")

    async with TestShop(market) as shop:
        with caplog.at_level(logging.WARNING, "torpor.market"):
            for n in (1, 2):
                await shop.publish(Tick(symbol="a", n=n))
            await shop.publish(Sent("ticks", b'{"symbol": "a", "n": "three"}', id="3", type="ticks"))
            await shop.settle()
        numbers = shop.hosts[0].metrics.of("market.show")
        assert (heard, numbers.done, numbers.failed) == ([1, 2], 1, 2)
        assert await shop.parked() == []
    assert "market.show failed on message" in caplog.text
    assert "market.show cannot read message" in caplog.text


async def test_a_listener_with_a_transaction_commits_its_own() -> None:
    """A listener may ask for `Tx` and publish: each event has a unit, without inbox; a copy is handled again."""
    market = Service("market", migrations=TABLES)

    @market.on(Tick)
    async def keep(event: Tick, tx: Tx, message: Message) -> Order1:
        await tx.execute("INSERT INTO seen VALUES ($1)", event.n)
        return Order1(id=f"{message.key}{event.n}")

    @market.get("/seen")
    async def seen(tx: Tx) -> int:
        return len(await tx.fetch("SELECT * FROM seen"))

    async with TestShop(market) as shop:
        for n in (1, 1, 100):
            await shop.publish(Tick(symbol="a", n=n), id="same")
        await shop.settle()
        assert (await shop.get("/seen")).json() == 2
        assert shop.published(Order1) == [Order1(id="a1"), Order1(id="a1")]


async def test_events_of_a_key_are_heard_in_order() -> None:
    """Events of one key follow each other, others go on beside them."""
    market, gate, heard = Service("market"), asyncio.Event(), []

    @market.on(Tick)
    async def show(event: Tick) -> None:
        if event.symbol == "slow":
            await gate.wait()
        heard.append((event.symbol, event.n))

    async with TestShop(market) as shop:
        for n in range(20):
            await shop.publish(Tick(symbol="slow", n=n))
            await shop.publish(Tick(symbol="fast", n=n))
        await shop.until(lambda: len(heard) == 20)
        gate.set()
        await shop.settle()
    assert heard == [("fast", n) for n in range(20)] + [("slow", n) for n in range(20)]


async def test_what_comes_too_fast_is_let_go() -> None:
    """At most a thousand events of a listener wait; what comes then is counted as lost."""
    market, gate, heard = Service("market"), asyncio.Event(), []

    @market.on(Tick)
    async def show(event: Tick) -> None:
        await gate.wait()
        heard.append(event.n)

    async with TestShop(market) as shop:
        for n in range(1200):
            await shop.publish(Tick(symbol="a", n=n))
        gate.set()
        await shop.settle()
        assert heard == list(range(1000))
        assert shop.hosts[0].metrics.of("market.show").lost == 200


async def test_an_outage_loses_what_is_told_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    """While the broker is away the unit commits all the same, its fleeting events are lost, counted and told."""
    market = Service("market", migrations=TABLES)

    @market.post("/ticks/{n}")
    async def make(n: int, tx: Tx) -> None:
        tx.publish(Tick(symbol="a", n=n))

    async with TestShop(market) as shop:
        shop.hub.is_down = True
        assert (await shop.post("/ticks/1")).status_code == 200
        await shop.until(lambda: shop.hosts[0].metrics.lost == 1)
        shop.hub.is_down = False
        await shop.post("/ticks/2")
        await shop.settle()
        assert shop.published(Tick) == [Tick(symbol="a", n=2)]
    assert "1 fleeting events are lost: The memory broker is down" in caplog.text


async def test_a_struct_may_be_fleeting() -> None:
    """`@event(durable=False)` says it of a class that cannot be an Event, and a service needs no database for it."""
    people, seen = Service("people"), []

    @people.on(Order1)
    async def appear(event: Order1) -> Presence:
        return Presence(user=event.id)

    @people.on(Presence, group="wall")
    async def show(event: Presence) -> None:
        seen.append(event.user)

    async with TestShop(people) as shop:
        await shop.publish(Order1(id="ada"))
        await shop.settle()
        assert seen == ["ada"]


async def test_a_fleeting_event_cannot_wait() -> None:
    """A delay, or a name for one, is refused: there is nothing to wait in."""
    market, problems = Service("market", migrations=TABLES), []

    @market.post("/ticks")
    async def make(tx: Tx) -> None:
        for options in ({"after": 5.0}, {"timer": "t"}):
            try:
                tx.publish(Tick(symbol="a", n=1), **options)
            except ConfigurationError as error:
                problems.append(error.problems[0])

    async with TestShop(market) as shop:
        await shop.post("/ticks")
    assert problems == ["Tick is fleeting (durable=False), and cannot wait. Give it no time."] * 2


async def test_a_stop_finishes_what_was_heard() -> None:
    """A clean stop hears no more, and handles what it has."""
    market, gate, heard = Service("market"), asyncio.Event(), []

    @market.on(Tick)
    async def show(event: Tick) -> None:
        await gate.wait()
        heard.append(event.n)

    async with TestShop(market) as shop:
        for n in range(3):
            await shop.publish(Tick(symbol="a", n=n))
        await shop.until(lambda: shop.hosts[0]._traffic.under_way == 3)
        stopping = asyncio.create_task(shop.hosts[0].stop())
        await shop.until(lambda: not shop.hub.switch._groups)
        await shop.publish(Tick(symbol="a", n=9))
        gate.set()
        await stopping
    assert heard == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retry": Retry()}, "has retry=, and its event is fleeting (durable=False): it comes once at most"),
        ({"pause": Pause()}, "has pause=, and its event is fleeting"),
        ({"batch": Batch(10)}, "has batch=, and its event is fleeting"),
        ({"order": Order.STRICT}, "has order=Order.STRICT, and its event is fleeting"),
    ],
)
def test_policies_of_repetition_are_refused(options: dict[str, object], told: str) -> None:
    """What would repeat, park or hold up a fleeting event is a mistake of the declaration."""
    market = Service("market")

    async def show(event: Tick) -> None: ...

    async def show_all(events: list[Tick]) -> None: ...

    market.on(Tick, **options)(show_all if "batch" in options else show)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as failure:
        bind(market)
    assert told in str(failure.value)


def test_a_step_key_of_a_fleeting_event_is_refused() -> None:
    """What never comes again needs no key by which it would be known."""
    market = Service("market")

    @market.on(Tick)
    async def show(event: Tick, key: StepKey) -> None: ...

    with pytest.raises(ConfigurationError, match="asks for StepKey, and what it handles comes once at most"):
        bind(market)


def test_a_topic_is_durable_or_it_is_not() -> None:
    """Two contracts of one topic of which only one is durable are told; a fleeting topic is none of the streams."""
    market = Service("market", migrations=TABLES)

    @market.post("/")
    async def make(tx: Tx) -> None:
        tx.publish(Tick(symbol="a", n=1))

    plan = bind(market)
    assert plan.topics == ()
    assert plan.needs_broker
    assert topology_of([plan]).to_dict()["topics"][0]["durable"] is False

    @market.on(Lasting)
    async def last(event: Lasting) -> None: ...

    (problem,) = topology_of([bind(market)]).problems()
    assert problem == "Lasting and Tick share the topic 'ticks', and only some are durable. Part them."


def test_kafka_refuses_fleeting_events() -> None:
    """Kafka keeps what it is given, so a service that publishes or hears what is fleeting is refused there."""
    market = Service("market")

    @market.on(Tick)
    async def show(event: Tick) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'market' uses Tick, and Kafka carries no .* fleeting"):
        assemble([market], Settings.read({"TORPOR_BROKER_URL": "kafka://k:9092"}))


async def test_a_foreign_message_is_heard() -> None:
    """A message without an envelope, of another program, is handled as it is."""
    market, heard = Service("market"), []

    @market.on(Tick)
    async def show(event: Tick, message: Message) -> None:
        heard.append((event.n, message.type))

    async with TestShop(market) as shop:
        await shop.publish(Sent("ticks", b'{"symbol": "a", "n": 4}', id="1", type=""))
        await shop.settle()
    assert heard == [(4, "")]
