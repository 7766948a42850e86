"""Requests, answers and fleeting events over a real NATS server, and what becomes of them in trouble."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import pytest

from torpor import Ask, Depends, Event, Request, Service, Tx
from torpor.adapters.nats.client import nats_client
from torpor.assembly import assemble
from torpor.kernel.errors import BrokerUnavailable, NotAnswered, Rejected, TimedOut
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.runtime.host import Host

    Run = Callable[..., Any]

DEADLINE = 30
TABLES = {"0001_sale.sql": "CREATE TABLE sale (n INTEGER NOT NULL)"}


class Double(Request[int], topic="numbers.double"):
    n: int


class Hold(Request[str], topic="gates.hold"):
    name: str


class Tick(Event, topic="numbers.ticks", key="name", durable=False):
    name: str
    n: int


class Stored(Event, topic="numbers.stored"):
    n: int


class Taken(Request[int], topic="numbers.stored-too"):
    pass


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a fact."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # a fact of any kind has no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Runs services on a NATS server; each is ready when it is returned."""
    async with contextlib.AsyncExitStack() as exits:

        async def run(server: EmbeddedNats, service: Service, *, database: bool = False, waits: bool = True) -> Host:
            environ = {"TORPOR_BROKER_URL": server.url}
            if database:
                environ["TORPOR_DATABASE_URL"] = "memory://"
            deployment = assemble([service], Settings.read(environ))
            await deployment.start()
            exits.push_async_callback(deployment.stop)
            if waits:
                await until(lambda: deployment.hosts[0].is_ready)
            return deployment.hosts[0]

        yield run


def numbers(answered: Counter[str] | None = None, name: str = "one") -> Service:
    """Doubles numbers, and counts who did it."""
    service = Service("numbers")

    @service.answer(Double)
    async def double(request: Double) -> int:
        if answered is not None:
            answered[name] += 1
        return 2 * request.n

    return service


def caller() -> Service:
    """A service that may ask."""
    service = Service("caller")

    @service.get("/double/{n}")
    async def double(n: int, ask: Ask) -> int:
        return await ask(Double(n=n))

    return service


async def test_ten_thousand_requests_at_once(nats_server: EmbeddedNats, run: Run) -> None:
    """Ten thousand requests that wait at once are each given their own answer."""
    await run(nats_server, numbers())
    asking: Host = await run(nats_server, caller())
    answers = await asyncio.gather(*(asking.ask(Double(n=n), timeout=3 * DEADLINE) for n in range(10_000)))
    assert answers == [2 * n for n in range(10_000)]


async def test_replicas_share_the_load(nats_server: EmbeddedNats, run: Run) -> None:
    """Two processes of a service answer each request once, and each of them a fair part."""
    answered: Counter[str] = Counter()
    for name in ("one", "two"):
        await run(nats_server, numbers(answered, name))
    asking: Host = await run(nats_server, caller())
    await asyncio.gather(*(asking.ask(Double(n=n)) for n in range(1000)))
    assert answered.total() == 1000
    assert min(answered.values()) > 200


async def test_nobody_is_told_at_once(nats_server: EmbeddedNats, run: Run) -> None:
    """The server says at once that nobody answers, long before the timeout."""
    asking: Host = await run(nats_server, caller())
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(NotAnswered, match="Nobody answers Hold") as failure:
            await asking.ask(Hold(name="x"), timeout=3600)
    assert failure.value.code == "nobody"


async def test_a_large_request_is_refused(nats_server: EmbeddedNats, run: Run) -> None:
    """What the server does not take is refused before it is sent, and the connection lives on."""
    await run(nats_server, numbers())
    asking: Host = await run(nats_server, caller())
    with pytest.raises(Rejected, match="takes at most"):
        await asking.ask(Hold(name="x" * 2_000_000))
    assert await asking.ask(Double(n=1)) == 2


async def test_a_restart_of_the_server_in_the_middle_of_a_request(
    serve_nats: Callable[..., EmbeddedNats], run: Run
) -> None:
    """Who waits while the server dies learns that the outcome is unknown; both sides are back by themselves."""
    server, service, gate, begun = serve_nats(), Service("gates"), asyncio.Event(), []

    @service.answer(Hold)
    async def hold(request: Hold) -> str:
        begun.append(request.name)
        await gate.wait()
        return request.name

    await run(server, service)
    asking: Host = await run(server, caller())
    waiting = asyncio.create_task(asking.ask(Hold(name="first"), timeout=DEADLINE))
    await until(lambda: begun == ["first"])

    server.stop()
    with pytest.raises(BrokerUnavailable, match="unknown whether the request was handled"):
        await waiting
    with pytest.raises(BrokerUnavailable):
        await asking.ask(Hold(name="away"), timeout=DEADLINE)
    gate.set()
    server.start()

    async def again() -> str:
        while True:
            try:
                return await asking.ask(Hold(name="second"), timeout=DEADLINE)
            except (BrokerUnavailable, NotAnswered):
                await asyncio.sleep(0.05)

    async with asyncio.timeout(DEADLINE):
        assert await again() == "second"
    assert "away" not in begun


async def test_a_service_may_start_before_its_server(serve_nats: Callable[..., EmbeddedNats], run: Run) -> None:
    """A service whose server is away is not ready, and answers once the server is there."""
    server = serve_nats()
    server.stop()
    answering: Host = await run(server, numbers(), waits=False)
    await until(lambda: "cannot be reached" in answering.status()["parts"].get("broker", {}).get("detail", ""))
    server.start()
    await until(lambda: answering.is_ready)
    asking: Host = await run(server, caller())
    assert await asking.ask(Double(n=4)) == 8


async def test_a_stop_drains_what_is_being_answered(nats_server: EmbeddedNats, run: Run) -> None:
    """While requests come without a pause, one of two replicas stops in order: every request is answered."""
    answered: Counter[str] = Counter()
    first: Host = await run(nats_server, numbers(answered, "first"))
    await run(nats_server, numbers(answered, "second"))
    asking: Host = await run(nats_server, caller())
    is_over = asyncio.Event()

    async def keep_asking() -> int:
        many = 0
        while not is_over.is_set():
            assert await asking.ask(Double(n=many)) == 2 * many
            many += 1
        return many

    tasks = [asyncio.create_task(keep_asking()) for _ in range(20)]
    await until(lambda: answered["first"] > 100)
    await first.stop()
    stopped_at = answered.copy()
    await until(lambda: answered["second"] > stopped_at["second"] + 200)
    is_over.set()
    assert sum(await asyncio.gather(*tasks)) == answered.total()
    assert answered["first"] == stopped_at["first"]


async def test_a_slow_answer_and_a_cancelled_caller(nats_server: EmbeddedNats, run: Run) -> None:
    """A caller that gives up, or is cancelled, leaves the handler at work and the next caller unharmed."""
    service, gate, begun = Service("gates"), asyncio.Event(), []

    @service.answer(Hold)
    async def hold(request: Hold) -> str:
        begun.append(request.name)
        if request.name != "quick":
            await gate.wait()
        return request.name

    await run(nats_server, service)
    asking: Host = await run(nats_server, caller())
    with pytest.raises(TimedOut):
        await asking.ask(Hold(name="slow"), timeout=0.2)
    cancelled = asyncio.create_task(asking.ask(Hold(name="left"), timeout=DEADLINE))
    await until(lambda: begun == ["slow", "left"])
    cancelled.cancel()
    gate.set()
    assert await asking.ask(Hold(name="quick")) == "quick"


async def test_fleeting_events_reach_each_group(nats_server: EmbeddedNats, run: Run) -> None:
    """What is published in a transaction is heard after the commit, by one replica of each group, in order."""
    heard: list[int] = []
    shared: list[int] = []
    told = Service("told", migrations=TABLES)

    @told.answer(Double)
    async def double(request: Double, tx: Tx) -> int:
        tx.write("INSERT INTO sale VALUES ($1)", request.n)
        tx.publish(Tick(name="a", n=request.n))
        return 2 * request.n

    single, pair = Service("single"), Service("pair")

    @single.on(Tick)
    async def hear(event: Tick) -> None:
        heard.append(event.n)

    @pair.on(Tick)
    async def share(event: Tick) -> None:
        shared.append(event.n)

    for service in (single, pair, pair):
        await run(nats_server, service)
    await run(nats_server, told, database=True)
    asking: Host = await run(nats_server, caller())
    for n in range(100):
        await asking.ask(Double(n=n))
    await until(lambda: len(heard) == 100 and len(shared) == 100)
    assert heard == list(range(100))
    assert sorted(shared) == heard


async def test_a_subject_that_a_stream_takes_is_told(nats_server: EmbeddedNats, run: Run) -> None:
    """When a stream of JetStream stores a request's subject and answers itself, the caller is told what is wrong."""
    asking: Host = await run(nats_server, caller())
    stream = f"greedy-{uuid4().hex}"
    jetstream = nats_client(asking.broker).jetstream()
    await jetstream.add_stream(name=stream, subjects=["numbers.stored-too"])
    try:
        with pytest.raises(Rejected, match="A stream of JetStream takes the subject"):
            await asking.ask(Taken())
    finally:
        await jetstream.delete_stream(stream)


async def test_a_foreign_client_asks_and_answers(nats_server: EmbeddedNats, run: Run) -> None:
    """A program without Torpor asks with plain JSON, and answers with it."""
    await run(nats_server, numbers())
    asking: Host = await run(nats_server, caller())
    client = nats_client(asking.broker)

    async def answer(request: Any) -> None:
        await request.respond(b'"by hand"')

    subscription = await client.subscribe("gates.hold", cb=answer)
    answered = await client.request("numbers.double", b'{"n": 21}', timeout=DEADLINE)
    assert answered.data == b"42"
    assert answered.headers["ce-type"] == "numbers.double.answer"
    assert await asking.ask(Hold(name="x")) == "by hand"
    await subscription.unsubscribe()


async def test_the_client_is_reached_by_a_dependency(nats_server: EmbeddedNats, run: Run) -> None:
    """A handler gets the live client of nats-py, and with it a key-value bucket."""
    service, bucket = Service("flags"), f"flags-{uuid4().hex}"

    @service.answer(Hold)
    async def hold(request: Hold, client: Annotated[Any, Depends(nats_client)]) -> str:
        store = await client.jetstream().create_key_value(bucket=bucket)
        await store.put("name", request.name.encode())
        return (await store.get("name")).value.decode()  # type: ignore[no-any-return]

    await run(nats_server, service)
    asking: Host = await run(nats_server, caller())
    assert await asking.ask(Hold(name="green")) == "green"
