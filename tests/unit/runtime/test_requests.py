"""Requests and their answers, on memory: what a caller gets, and what is told of mistakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator  # noqa: TC003  # a lifespan's type
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from torpor import Ask, Command, Depends, Event, Message, Request, Router, Service, StepKey, TorporError, Tx
from torpor.assembly import assemble, plans_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, NotAnswered, Rejected, TimedOut
from torpor.runtime.binding import bind
from torpor.runtime.settings import Settings
from torpor.runtime.topology import topology_of
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TABLES = {"0001_sale.sql": "CREATE TABLE sale (sku TEXT PRIMARY KEY)"}


class Price(BaseModel):
    cents: int


class GetPrice(Request[Price], topic="prices.get"):
    sku: str


class Sell(Request[int], topic="prices.sell"):
    sku: str


class Rename(Request[None], topic="prices.rename"):
    sku: str


class Find(Request[list[Price] | None], topic="prices.find"):
    pass


class Copy(Request[str], topic="copies"):
    text: str
    times: int = 1


class Sold(Event, topic="prices.sold", key="sku"):
    sku: str


async def tea(ask: Ask) -> Price:
    return await ask(GetPrice(sku="tea"))


async def stock(ask: Ask) -> int:
    return await ask(Sell(sku="tea"))


async def book() -> AsyncIterator[dict[str, int]]:
    yield {"tea": 9}


def service(**log: Any) -> Service:
    """Answers all of these."""
    prices = Service("prices", migrations=TABLES)

    @prices.answer(GetPrice)
    async def quote(request: GetPrice, message: Message) -> Price:
        log.setdefault("messages", []).append(message)
        if request.sku == "broken":
            raise LookupError("the secret of the shop")
        if request.sku == "wrong":
            return "not a price"  # type: ignore[return-value]
        return Price(cents=len(request.sku))

    @prices.answer(Sell)
    async def sell(request: Sell, tx: Tx) -> int:
        await tx.execute("INSERT INTO sale VALUES ($1)", request.sku)
        tx.publish(Sold(sku=request.sku))
        if request.sku == "broken":
            raise LookupError(request.sku)
        return len(await tx.fetch("SELECT * FROM sale"))

    @prices.answer(Rename)
    async def rename(request: Rename) -> None: ...

    @prices.answer(Find)
    async def find(request: Find) -> list[Price] | None:
        return [Price(cents=1)]

    return prices


async def test_a_request_is_answered_with_its_type() -> None:
    """A model, a number, None and a list come back as what the request's class names."""
    async with TestShop(service()) as shop:
        assert await shop.ask(GetPrice(sku="tea")) == Price(cents=3)
        assert await shop.ask(Sell(sku="tea")) == 1
        await shop.ask(Rename(sku="tea"))
        assert await shop.ask(Find()) == [Price(cents=1)]


async def test_an_answer_follows_the_commit() -> None:
    """What a handler with `Tx` has done is committed before its answer, and what it published goes by the outbox."""
    async with TestShop(service()) as shop:
        assert [await shop.ask(Sell(sku=sku)) for sku in ("a", "b")] == [1, 2]
        await shop.settle()
        assert shop.published(Sold) == [Sold(sku="a"), Sold(sku="b")]


async def test_a_failed_handler_leaves_nothing_behind() -> None:
    """A handler that raises takes its effects and events back, and the caller learns a code."""
    async with TestShop(service()) as shop:
        with pytest.raises(NotAnswered) as failure:
            await shop.ask(Sell(sku="broken"))
        assert failure.value.code == "failed"
        assert await shop.ask(Sell(sku="tea")) == 1
        await shop.settle()
        assert shop.published(Sold) == [Sold(sku="tea")]


@pytest.mark.parametrize("sku", ["broken", "wrong"])
async def test_the_reason_of_a_failure_stays_in_the_log(sku: str, caplog: pytest.LogCaptureFixture) -> None:
    """The caller is told the handler and the request's id, by which the log tells the error itself."""
    async with TestShop(service()) as shop:
        with caplog.at_level(logging.ERROR, "torpor.prices"), pytest.raises(NotAnswered) as failure:
            await shop.ask(GetPrice(sku=sku))
    assert failure.value.code == "failed"
    assert str(failure.value).startswith("GetPrice has no answer: prices.quote failed. Its log tells why.")
    assert "secret" not in str(failure.value)
    (record,) = caplog.records
    assert failure.value.request_id in record.getMessage()
    assert sku == "wrong" or "the secret of the shop" in str(record.exc_info)


async def test_nobody_is_told_at_once() -> None:
    """A request that no service answers fails without a wait, and the error tells the topic."""
    async with TestShop(Service("other")) as shop:
        with pytest.raises(NotAnswered, match=r"Nobody answers GetPrice on 'prices\.get'") as failure:
            await shop.ask(GetPrice(sku="tea"), timeout=3600)
        assert failure.value.code == "nobody"


async def test_a_request_that_cannot_be_read_is_told() -> None:
    """A caller with another idea of the request learns which field is wrong, and no value is told."""

    class Older(Request[Price], topic="prices.get"):
        name: str

    async with TestShop(service()) as shop:
        with pytest.raises(NotAnswered, match=r"prices\.quote cannot read it: .*sku: Field required") as failure:
            await shop.ask(Older(name="hidden"))
        assert failure.value.code == "undecodable"
        assert "hidden" not in str(failure.value)


async def test_an_answer_that_does_not_fit_is_told() -> None:
    """A caller with another idea of the answer learns what is wrong with it."""

    class Other(Request[int], topic="prices.get"):
        sku: str

    async with TestShop(service()) as shop:
        with pytest.raises(NotAnswered, match=r"cannot be read: int does not fit: answer: ") as failure:
            await shop.ask(Other(sku="tea"))
        assert failure.value.code == "unreadable"


async def test_what_is_too_large_is_told() -> None:
    """An oversized request raises Rejected; an oversized answer is none, with a code."""
    copies = Service("copies")

    @copies.answer(Copy)
    async def copy(request: Copy) -> str:
        return request.text * request.times

    async with TestShop(copies) as shop:
        with pytest.raises(Rejected, match="too large"):
            await shop.ask(Copy(text="x" * 2_000_000))
        with pytest.raises(NotAnswered) as failure:
            await shop.ask(Copy(text="x", times=2_000_000))
        assert failure.value.code == "oversized"
        assert await shop.ask(Copy(text="x")) == "x"


async def test_a_slow_answer_times_out() -> None:
    """Who waits no longer is told that the outcome is unknown; the handler goes on."""
    slow, gate, done = Service("slow"), asyncio.Event(), []

    @slow.answer(Rename)
    async def rename(request: Rename) -> None:
        await gate.wait()
        done.append(request.sku)

    async with TestShop(slow) as shop:
        with pytest.raises(TimedOut, match=r"Rename was not answered within 0\.01 s, and it is unknown") as failure:
            await shop.ask(Rename(sku="tea"), timeout=0.01)
        assert isinstance(failure.value, TorporError)
        assert failure.value.seconds == 0.01
        gate.set()
        await shop.until(lambda: done == ["tea"])


async def test_late_work_is_not_begun() -> None:
    """The caller's timeout travels along: a request whose turn comes after it is let go, and counted."""
    slow, gate, begun = Service("slow"), asyncio.Event(), []

    @slow.answer(Rename, concurrency=1)
    async def rename(request: Rename) -> None:
        begun.append(request.sku)
        await gate.wait()

    async with TestShop(slow) as shop:
        first = asyncio.create_task(shop.ask(Rename(sku="first"), timeout=3600))
        await shop.until(lambda: begun == ["first"])
        others = [asyncio.create_task(shop.ask(Rename(sku=sku), timeout=t)) for sku, t in (("late", 60), ("ok", 3600))]
        await shop.until(lambda: shop.hosts[0]._traffic.under_way == 3)
        await shop.clock.advance(61)
        gate.set()
        await asyncio.gather(first, others[1])
        others[0].cancel()
        assert begun == ["first", "ok"]
        assert shop.hosts[0].metrics.of("slow.rename").lost == 1


async def test_what_one_asks_tells_its_cause() -> None:
    """A request that is asked while a message is handled carries its correlation and trace on."""
    log: dict[str, Any] = {"messages": []}
    caller = Service("caller")

    @caller.on(Sold)
    async def check(event: Sold, ask: Ask, message: Message) -> None:
        log["cause"] = message
        log["price"] = await ask(GetPrice(sku=event.sku))

    async with TestShop(service(**log), caller) as shop:
        await shop.publish(Sold(sku="tea"))
        await shop.settle()
    asked = log["messages"][0].attributes
    assert log["price"] == Price(cents=3)
    assert asked["causationid"] == log["cause"].id
    assert asked["source"] == "caller"
    assert asked["torportimeout"] == "5"


async def test_routes_schedules_and_dependencies_can_ask() -> None:
    """Whoever is filled by type gets an `Ask`, dependencies too."""
    caller, found = Service("caller"), []

    @caller.get("/price/{sku}")
    async def price(sku: str, ask: Ask, tea: Annotated[Price, Depends(tea)]) -> list[Price]:
        return [await ask(GetPrice(sku=sku), timeout=1), tea]

    @caller.every(60)
    async def look(tea: Annotated[Price, Depends(tea)]) -> None:
        found.append(tea)

    async with TestShop(service(), caller) as shop:
        assert (await shop.get("/price/coffee")).json() == [{"cents": 6}, {"cents": 3}]
        await shop.advance(61)
        assert found == [Price(cents=3)]


async def test_an_outage_of_the_broker_is_told() -> None:
    """While the broker is away a request raises BrokerUnavailable, and works again after."""
    async with TestShop(service()) as shop:
        shop.hub.is_down = True
        with pytest.raises(BrokerUnavailable):
            await shop.ask(GetPrice(sku="tea"))
        shop.hub.is_down = False
        assert await shop.ask(GetPrice(sku="tea")) == Price(cents=3)


async def test_a_handler_without_its_database_is_unavailable() -> None:
    """When the database is away, the caller is told to ask again."""
    async with TestShop(service()) as shop:
        await shop.hosts[0].store.stop()
        with pytest.raises(NotAnswered) as failure:
            await shop.ask(Sell(sku="tea"))
        assert failure.value.code == "unavailable"


async def test_a_stop_finishes_what_is_being_answered() -> None:
    """A clean stop takes nothing new, and answers what it has begun."""
    slow, gate, begun = Service("slow"), asyncio.Event(), []

    @slow.answer(Rename)
    async def rename(request: Rename) -> None:
        begun.append(request.sku)
        await gate.wait()

    async with TestShop(slow) as shop:
        asked = asyncio.create_task(shop.ask(Rename(sku="tea"), timeout=3600))
        await shop.until(lambda: begun == ["tea"])
        stopping = asyncio.create_task(shop.hosts[0].stop())
        await shop.until(lambda: not shop.hub.switch._groups)
        with pytest.raises(NotAnswered, match="Nobody"):
            await shop.ask(Rename(sku="later"))
        gate.set()
        await asked
        await stopping


async def test_a_handler_that_answers_is_an_ordinary_function() -> None:
    """A unit test calls a handler that answers, and gives one that asks any async function."""

    async def price_of(request: GetPrice, *, timeout: float = 5.0) -> Price:  # noqa: ASYNC109  # as `Ask` has it
        return Price(cents=7)

    router = Router()

    @router.answer(GetPrice)
    async def quote(request: GetPrice) -> Price:
        return Price(cents=1)

    async def total(ask: Callable[..., Awaitable[Price]]) -> int:
        return (await ask(GetPrice(sku="tea"), timeout=1)).cents + (await quote(GetPrice(sku="tea"))).cents

    assert await total(price_of) == 8


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
async def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:  # noqa: ASYNC109  # the tested value
    """A timeout that waits for nothing, or for ever, is a mistake."""
    async with TestShop(service()) as shop:
        with pytest.raises(ConfigurationError, match="waits for nothing"):
            await shop.ask(GetPrice(sku="tea"), timeout=timeout)


def test_mistakes_of_answering_are_told_at_binding() -> None:
    """What is no request, is answered with another type, twice, or is used as an event is told with its remedy."""
    wrong = Service("wrong")

    class Bare(Request, topic="bare"):  # type: ignore[type-arg]
        pass

    class Topicless(Request[int]):
        pass

    class Lost(Command, topic="lost", durable=False):
        pass

    @wrong.answer(Sold)  # type: ignore[arg-type]
    async def one(event: Sold) -> None: ...

    @wrong.answer(Bare)
    async def two(request: Bare) -> None: ...

    @wrong.answer(GetPrice)  # type: ignore[arg-type]
    async def three(request: GetPrice) -> int:
        return 1

    @wrong.answer(Sell, concurrency=0)
    async def four(request: Sell) -> int:
        return 1

    @wrong.on(GetPrice)
    async def five(event: GetPrice) -> None: ...

    @wrong.answer(Rename)
    async def six(request: Rename, key: StepKey) -> None: ...

    @wrong.on(Sold, publishes=[GetPrice])
    async def seven(event: Sold) -> None: ...

    @wrong.answer(Topicless)
    async def eight(request: Topicless) -> int:
        return 1

    @wrong.on(Lost)
    async def nine(event: Lost) -> None: ...

    with pytest.raises(ConfigurationError) as failure:
        bind(wrong)
    told = "\n".join(failure.value.problems)
    for part in (
        "answers Sold, which is no Request. Write: class Sold(Request[Answer]",
        "answers Bare, which does not say with what.",
        "returns int, and GetPrice is answered with Price. Say one.",
        "has concurrency=0. Give a number from 1",
        "listens to GetPrice, which is a Request. Decorate it with answer(GetPrice).",
        "asks for StepKey, and what it handles comes once at most",
        "publishes GetPrice, which is a Request. Ask it: give the handler an ask: Ask.",
        "uses Topicless, which has no topic.",
        "listens to Lost, a Command with durable=False.",
    ):
        assert part in told, told


def test_a_request_is_answered_once() -> None:
    """Two handlers of a service, or two services, may not answer one request."""
    twice, other = Service("twice"), Service("other")

    async def first(request: GetPrice) -> Price:
        return Price(cents=1)

    async def second(request: GetPrice) -> Price:
        return Price(cents=2)

    twice.answer(GetPrice)(first)
    other.answer(GetPrice)(second)
    with pytest.raises(ConfigurationError, match=r"GetPrice is answered by other and twice\. A request has one"):
        plans_of([twice, other])
    twice.answer(GetPrice)(second)
    with pytest.raises(ConfigurationError, match=r"answers GetPrice on 'prices\.get' twice"):
        bind(twice)


def test_the_topology_knows_who_asks_and_who_answers() -> None:
    """Both ends of a request are known without running; that nobody here answers one is a note and no mistake."""
    caller = Service("caller")

    @caller.get("/x")
    async def x(ask: Ask, stock: Annotated[int, Depends(stock)]) -> Price:
        return await ask(GetPrice(sku="tea"))

    alone, both = topology_of(plans_of([caller])), topology_of(plans_of([caller, service()]))
    requests = {request["topic"]: request for request in both.to_dict()["requests"]}
    assert requests["prices.get"]["askers"] == ["caller.x"]
    assert requests["prices.get"]["answerers"] == ["prices.quote"]
    assert requests["prices.sell"]["askers"] == ["caller.x"]
    assert both.notes() == []
    assert alone.problems() == []
    assert "caller.x asks GetPrice, and no service here answers it on 'prices.get'." in alone.notes()
    assert "caller <-.->|prices.get| prices" in both.to_mermaid()
    assert bind(caller).topics == ()
    assert bind(caller).needs_broker


@pytest.mark.parametrize(
    ("broker", "delivery", "told"),
    [("kafka://k:9092", "pull", "Kafka carries no requests"), ("nats://n", "push", "TORPOR_DELIVERY=push carries no")],
)
def test_what_cannot_carry_requests_says_so(broker: str, delivery: str, told: str) -> None:
    """On Kafka, and in push mode, a service that asks or answers is refused before anything is opened."""
    settings = Settings.read(
        {"TORPOR_BROKER_URL": broker, "TORPOR_DATABASE_URL": "memory://", "TORPOR_DELIVERY": delivery}
    )
    with pytest.raises(ConfigurationError, match=told) as failure:
        assemble([service()], settings)
    assert "'prices' uses Find, GetPrice, Rename, Sell" in str(failure.value)


async def test_a_lifespan_can_be_used_while_answering() -> None:
    """A handler that answers gets what any handler gets: lifespans, dependencies, the message."""
    prices = Service("prices")
    prices.lifespan(book)

    @prices.answer(GetPrice)
    async def quote(request: GetPrice, book: Annotated[dict[str, int], Depends(book)]) -> Price:
        return Price(cents=book[request.sku])

    async with TestShop(prices) as shop:
        assert await shop.ask(GetPrice(sku="tea")) == Price(cents=9)
