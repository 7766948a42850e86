"""The push endpoint: what is answered to a CloudEvent that is posted, and what has become of it by then."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from torpor import ApiKeys, Caller, Command, ConfigurationError, Event, Message, Order, Retry, Service, Tx
from torpor.adapters.http.push import PushEndpoint
from torpor.adapters.http.reading import Request
from torpor.adapters.system.clock import SystemClock
from torpor.assembly import assemble, guards
from torpor.runtime.settings import Settings
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from torpor.adapters.http.answer import Answer
    from torpor.assembly import Deployment

TABLE = {"0001_seen.sql": "CREATE TABLE seen (id text, amount integer);"}
RECORD = "/-/events/orders.record"
BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json; charset=utf-8"
PATIENCE = 10.0


class Placed(Event, topic="orders.placed", key="id"):
    id: str
    amount: int


class Shipped(Event, topic="orders.shipped", key="id", type="com.example.shipped"):
    id: str


class Pinged(Event, topic="pinged"):
    """Carries nothing."""


class Cancel(Command, topic="orders.cancel"):
    id: str


class Post:
    """Posts to an endpoint."""

    def __init__(self, endpoint: PushEndpoint, *, is_taken: bool = False) -> None:
        self.endpoint = endpoint
        self.is_taken = is_taken  # as the lean server does
        self.taken = 0

    async def raw(self, body: bytes = b"", *, path: str = RECORD, method: str = "POST", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.is_taken:
            told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            fields = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
            request = Request(
                lambda _, answer: told.set_result(answer),
                method=method.encode(),
                url=path.encode(),
                fields=fields,
                body=body,
            )
            if self.endpoint.take(request):
                self.taken += 1
                return await told
        return await self.endpoint.answer(method, path, named, body)

    async def event(self, id: str = "1", *, amount: object = 5, path: str = RECORD, type: str = "orders.placed") -> int:
        """An event in binary mode; returns the status."""
        answer = await self.raw(payload(id, amount), path=path, **binary(id, type))
        if answer.status == 204:
            assert answer.body == b""
        if answer.status == 503:
            assert ("retry-after", "1") in answer.headers
        return answer.status

    async def batch(self, *events: object, path: str = RECORD) -> int:
        """Several events; returns the status."""
        return (await self.raw(json.dumps(events).encode(), path=path, content_type=BATCH)).status


def payload(id: str, amount: object = 5) -> bytes:
    return json.dumps({"id": id, "amount": amount}).encode()


def binary(id: str, type: str = "orders.placed") -> dict[str, str]:
    """The headers of binary mode."""
    content_type = "application/json"
    return {"ce_specversion": "1.0", "ce_id": id, "ce_source": "/t", "ce_type": type, "content_type": content_type}


def structured(id: str, *, type: str = "orders.placed", **others: object) -> dict[str, object]:
    """An event in the JSON format."""
    envelope = {"specversion": "1.0", "id": id, "source": "/t", "type": type}
    return {**envelope, "data": {"id": id, "amount": 5}, **others}


class Shop:
    """A service that records what comes, on memory adapters."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.keys: list[str | None] = []
        self.failures = 0
        orders = Service("orders", migrations=TABLE)

        @orders.on(Placed, retry=Retry(attempts=1), deadline=5)
        async def record(event: Placed, tx: Tx, message: Message) -> Shipped | None:
            self.entered.set()
            await self.gate.wait()
            if self.failures:
                self.failures -= 1
                raise RuntimeError("on purpose")
            self.keys.append(message.key)
            await tx.execute("INSERT INTO seen VALUES ($1, $2)", event.id, event.amount)
            return Shipped(id=event.id) if event.amount > 100 else None

        @orders.on(Placed, group="audit", order=Order.STRICT)
        async def audit(event: Placed, tx: Tx) -> None:
            tx.write("INSERT INTO seen VALUES ($1, $2)", f"audit {event.id}", event.amount)

        @orders.on(Shipped)
        async def shipped(event: Shipped, tx: Tx) -> None:
            tx.write("INSERT INTO seen VALUES ($1, 0)", f"shipped {event.id}")

        @orders.on(Pinged)
        async def ping(event: Pinged, tx: Tx) -> None:
            tx.write("INSERT INTO seen VALUES ('ping', 0)")

        self.service = orders
        self.shop = TestShop(orders, delivery="push")

    async def seen(self) -> list[str]:
        """What was recorded, in order."""
        async with self.shop.hosts[0].store.unit() as unit:
            return [row["id"] for row in await unit.statements.fetch("SELECT id FROM seen ORDER BY rowid", ())]


@pytest.fixture
async def orders() -> AsyncIterator[Shop]:
    made = Shop()
    async with made.shop:
        yield made
        made.gate.set()


@pytest.fixture(params=["answered", "taken"])
def post(orders: Shop, request: pytest.FixtureRequest) -> Post:
    endpoint = PushEndpoint(orders.shop.hosts, origins=["events.example"])
    return Post(endpoint, is_taken=request.param == "taken")


async def test_an_event_in_binary_mode_is_handled(orders: Shop, post: Post) -> None:
    """The answer is 204 without a body, and the effects are committed by then."""
    assert await post.event("1") == 204
    assert await orders.seen() == ["1"]
    assert post.taken == post.is_taken


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/", "POST", {}),
        ("/-/events/orders.nobody", "POST", {}),
        (f"{RECORD}?a=b", "POST", {}),
        (RECORD, "OPTIONS", {}),
        (RECORD, "GET", {}),
        (RECORD, "POST", {"content_type": STRUCTURED}),
        (RECORD, "POST", {"ce_extension": "x"}),
        (RECORD, "POST", {"ce_specversion": "0.3"}),
    ],
)
async def test_what_is_not_plain_is_left_to_the_long_way(
    orders: Shop, path: str, method: str, headers: dict[str, str]
) -> None:
    """Nothing is handled, and nothing is replied, by whoever leaves it."""
    post = Post(PushEndpoint(orders.shop.hosts), is_taken=True)
    answer = await post.raw(payload("1"), path=path, method=method, **{**binary("1"), **headers})
    assert not post.taken
    assert answer.status in {200, 204, 400, 404, 405}


async def test_events_of_one_key_that_come_side_by_side_are_handled_in_their_order(orders: Shop, post: Post) -> None:
    """However many requests bring them at once, and while others are under way."""
    posted = [
        asyncio.create_task(post.raw(payload(f"{n}"), path="/-/events/orders.audit", **binary(f"{n}")))
        for n in range(200)
    ]
    assert {(await one).status for one in posted} == {204}
    assert await orders.seen() == [f"audit {n}" for n in range(200)]


async def test_an_event_in_structured_mode_is_handled(orders: Shop, post: Post) -> None:
    """Its media type may have parameters and capitals, and its data may be base64."""
    body = json.dumps(structured("1")).encode()
    assert (await post.raw(body, content_type=STRUCTURED.title())).status == 204
    encoded = {**structured("2"), "data_base64": "eyJpZCI6ICIyIiwgImFtb3VudCI6IDF9"}
    del encoded["data"]
    assert (await post.raw(json.dumps(encoded).encode(), content_type=STRUCTURED)).status == 204
    assert await orders.seen() == ["1", "2"]


async def test_a_batch_is_handled_in_its_order(orders: Shop, post: Post) -> None:
    """By a handler that keeps the order."""
    assert await post.batch(*(structured(str(n)) for n in range(20)), path="/-/events/orders.audit") == 204
    assert await orders.seen() == [f"audit {n}" for n in range(20)]


async def test_an_empty_batch_is_done(post: Post, orders: Shop) -> None:
    """There is nothing to wait for."""
    assert await post.batch() == 204
    assert await orders.seen() == []


async def test_the_same_event_again_is_not_handled_again(orders: Shop, post: Post) -> None:
    """In whatever mode it comes; and the same batch again changes nothing."""
    assert [await post.event("1"), await post.event("1"), await post.batch(structured("1"))] == [204, 204, 204]
    assert [await post.batch(structured("2"), structured("3")) for _ in range(2)] == [204, 204]
    assert await orders.seen() == ["1", "2", "3"]


async def test_an_event_twice_in_one_batch_is_handled_once(orders: Shop, post: Post) -> None:
    """The second is the first again."""
    assert await post.batch(structured("1"), structured("1")) == 204
    assert await orders.seen() == ["1"]


async def test_a_faulty_member_of_a_batch_is_parked_and_the_others_are_handled(orders: Shop, post: Post) -> None:
    """Sent again, the whole is known: the faulty one is parked once."""
    members = structured("1"), {"specversion": "1.0", "type": "orders.placed"}, "no event", structured("2")
    for _ in range(2):
        assert await post.batch(*members) == 204
        assert await orders.seen() == ["1", "2"]
        assert len(await orders.shop.parked("orders.record")) == 2


async def test_a_faulty_member_is_parked_without_the_secrets_of_its_request(orders: Shop, post: Post) -> None:
    """What a gateway or a sender put beside the event stays out of the database."""
    await post.raw(b'["no event"]', content_type=BATCH, authorization="Bearer x", x_api_key="y")
    (row,) = await orders.shop.parked()
    assert not {"authorization", "x-api-key"} & row.message.attributes.keys()


async def test_a_payload_that_does_not_fit_is_parked(orders: Shop, post: Post) -> None:
    """Its envelope is good, so that it can be kept: no resending would change it."""
    assert await post.event("1", amount="many") == 204
    (row,) = await orders.shop.parked()
    assert (row.message.id, row.binding) == ("1", "orders.record")


async def test_what_fails_for_good_is_parked(orders: Shop, post: Post) -> None:
    """The answer is 204: the message is in the database, and is no longer the sender's."""
    orders.failures = 1
    assert await post.event("1") == 204
    assert [row.message.id for row in await orders.shop.parked()] == ["1"]


async def test_an_event_without_a_body_is_handled(orders: Shop, post: Post) -> None:
    """In structured mode without data, and in binary mode with an empty object."""
    event = structured("1", type="pinged")
    event["data"] = {}
    assert (
        await post.raw(json.dumps(event).encode(), path="/-/events/orders.ping", content_type=STRUCTURED)
    ).status == 204
    assert (await post.raw(b"{}", path="/-/events/orders.ping", **binary("2", "pinged"))).status == 204
    assert await orders.seen() == ["ping", "ping"]


async def test_no_body_where_one_is_needed_is_parked(orders: Shop, post: Post) -> None:
    """It has an envelope, so it is an event, whose payload does not fit."""
    assert (await post.raw(b"", **binary("1"))).status == 204
    assert [row.message.id for row in await orders.shop.parked()] == ["1"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content_type": "application/json"}, b"{}", 400),
        ({}, b"", 400),
        ({"content_type": "text/plain"}, b"hello", 415),
        ({"content_type": "application/x-www-form-urlencoded"}, b"a=b", 415),
        ({"content_type": STRUCTURED}, b"{", 400),
        ({"content_type": STRUCTURED}, b"", 400),
        ({"content_type": STRUCTURED}, b"[]", 400),
        ({"content_type": STRUCTURED}, b'{"id": "1"}', 400),
        ({"content_type": BATCH}, b"{}", 400),
        ({"content_type": BATCH}, b"\xff", 400),
        ({"content_type": "application/cloudevents+avro"}, b"x", 400),
        ({**binary("1"), "ce_specversion": "0.3"}, b"{}", 400),
        ({**binary("1"), "ce_id": ""}, b"{}", 400),
        ({**binary("1"), "ce_source": "%FF"}, b"{}", 400),
    ],
)
async def test_what_is_no_event_is_refused(
    orders: Shop, post: Post, headers: Mapping[str, str], body: bytes, status: int
) -> None:
    """With 400 or 415, which no sender repeats; nothing is handled and nothing is parked."""
    answer = await post.raw(body, **headers)
    assert answer.status == status
    assert json.loads(answer.body)["title"]
    assert await orders.shop.parked() == []
    assert await orders.seen() == []


async def test_only_handlers_can_be_posted_to(post: Post) -> None:
    """An unknown name is 404, and another method 405, which tells what is allowed."""
    assert await post.event(path="/-/events/orders.nobody") == 404
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await post.raw(method=method)
        assert (answer.status, dict(answer.headers)["allow"]) == (405, "POST, OPTIONS")


async def test_a_post_to_the_root_goes_to_all_handlers_of_the_type(orders: Shop, post: Post) -> None:
    """By the contract's own type, or by its topic; a type that nobody handles is 404."""
    assert await post.event("1", path="/") == 204
    assert await orders.seen() == ["1", "audit 1"]
    assert await post.event("2", path="/", type="com.example.shipped") == 204
    assert (await orders.seen())[2:] == ["shipped 2"]
    assert await post.event("3", path="/", type="orders.shipped") == 404


async def test_a_batch_to_the_root_is_dispatched_member_by_member(orders: Shop, post: Post) -> None:
    """In order for each handler; with a member that nobody handles, none is."""
    members = structured("1"), structured("2", type="com.example.shipped"), structured("3")
    assert await post.batch(*members, structured("4", type="strange"), path="/") == 404
    assert await orders.seen() == []
    assert await post.batch(*members, path="/") == 204
    assert sorted(await orders.seen()) == ["1", "3", "audit 1", "audit 3", "shipped 2"]


async def test_a_key_comes_from_the_partition_key_or_from_knative(orders: Shop, post: Post) -> None:
    """KafkaSource hands a record's key on as the extension `key`; the CloudEvents extension goes before it."""
    await post.raw(payload("1"), **binary("1"), ce_key="from kafka")
    await post.raw(payload("2"), **binary("2"), ce_key="from kafka", ce_partitionkey="own")
    await post.event("3")
    assert orders.keys == ["from kafka", "own", None]


@pytest.mark.parametrize(
    ("origin", "rate", "status", "allowed"),
    [("events.example", None, 200, "*"), ("events.example", "120", 200, "120"), ("other.example", None, 403, None)],
)
async def test_the_webhook_handshake_is_answered(
    post: Post, origin: str, rate: str | None, status: int, allowed: str | None
) -> None:
    """An origin that is named may post, at the rate that it asks for; others are refused."""
    asked: dict[str, Any] = {"webhook_request_origin": origin}
    if rate is not None:
        asked["webhook_request_rate"] = rate
    answer = await post.raw(method="OPTIONS", **asked)
    headers = dict(answer.headers)
    assert answer.status == status
    assert headers.get("webhook-allowed-rate") == allowed
    assert headers.get("webhook-allowed-origin") == (origin if status == 200 else None)


async def test_plain_options_tell_what_is_allowed(post: Post) -> None:
    """Without an origin it is no handshake, and grants nothing."""
    answer = await post.raw(method="OPTIONS")
    assert (answer.status, dict(answer.headers)) == (200, {"allow": "POST, OPTIONS"})


async def test_an_event_that_is_under_way_is_to_come_again(orders: Shop, post: Post) -> None:
    """A second copy gets 503 at once, in a batch too; the first goes on, and then the copy is done."""
    orders.gate.clear()
    first = asyncio.create_task(post.event("1"))
    await orders.entered.wait()
    assert await post.event("1") == 503
    second = asyncio.create_task(post.batch(structured("1"), structured("2")))
    orders.gate.set()
    assert await first == 204
    assert await second == 503
    assert await post.batch(structured("1"), structured("2")) == 204
    assert await orders.seen() == ["1", "2"]


async def test_a_deadline_that_is_over_is_answered_and_the_work_goes_on(orders: Shop, post: Post) -> None:
    """503 after the handler's `deadline=`; once it is done, the event that comes again is known."""
    orders.gate.clear()
    pushed = asyncio.create_task(post.event("1"))
    await orders.entered.wait()
    await orders.shop.clock.advance(4.9)
    assert not pushed.done()
    await orders.shop.clock.advance(0.2)
    assert await pushed == 503
    assert await post.event("1") == 503
    orders.gate.set()
    async with asyncio.timeout(PATIENCE):
        while await post.event("1") == 503:  # noqa: ASYNC110  # as a sender does
            await asyncio.sleep(0)
    assert await orders.seen() == ["1"]


async def test_what_a_handler_publishes_is_out_before_the_answer(orders: Shop, post: Post) -> None:
    """A pod that is scaled away after it leaves nothing behind."""
    assert await post.event("1", amount=1000) == 204
    assert orders.shop.published(Shipped) == [Shipped(id="1")]


async def test_an_event_is_done_though_its_effects_cannot_be_published(orders: Shop, post: Post) -> None:
    """While the broker is away they wait in the outbox, and the sender need not."""
    orders.shop.hub.is_down = True
    pushed = asyncio.create_task(post.event("1", amount=1000))
    await orders.shop.clock.advance(30)
    assert await pushed == 204
    assert orders.shop.published(Shipped) == []
    orders.shop.hub.is_down = False
    await orders.shop.advance(60)
    assert orders.shop.published(Shipped) == [Shipped(id="1")]


async def test_a_service_that_stops_takes_no_more(orders: Shop, post: Post) -> None:
    """503, so that another pod gets it; what has begun is finished."""
    orders.gate.clear()
    first = asyncio.create_task(post.event("1"))
    await orders.entered.wait()
    await orders.shop.hosts[0].retire()
    assert await post.event("2") == 503
    orders.gate.set()
    assert await first == 204
    assert await orders.seen() == ["1"]


@asynccontextmanager
async def running(service: Service, **environ: str) -> AsyncIterator[Deployment]:
    """A deployment in push mode, from settings, with a clock that runs."""
    settings = Settings.read({"TORPOR_DELIVERY": "push", "TORPOR_BROKER_URL": "memory://", **environ})
    deployment = assemble([service], settings)
    await deployment.start()
    try:
        yield deployment
    finally:
        await deployment.stop(1)


@pytest.mark.parametrize("is_taken", [False, True], ids=["answered", "taken"])
async def test_an_event_that_comes_before_the_service_is_up_waits_for_it(tmp_path: Path, *, is_taken: bool) -> None:
    """It need not be sent again."""
    url = f"sqlite:///{tmp_path}/orders.db"
    made = Shop()
    await assemble([made.service], Settings.read(environment(url))).migrate()
    async with running(made.service, TORPOR_DATABASE_URL=url) as deployment:
        assert not deployment.hosts[0].is_ready
        assert await Post(PushEndpoint(deployment.hosts), is_taken=is_taken).event("1") == 204


async def test_a_service_without_its_database_takes_nothing_until_it_is_there(tmp_path: Path) -> None:
    """503 while it is away, and 204 once it has come."""
    url = f"sqlite:///{tmp_path}/orders.db"
    made = Shop()
    async with running(made.service, TORPOR_DATABASE_URL=url) as deployment:
        post = Post(PushEndpoint(deployment.hosts))
        assert await post.event("1") == 503
        await deployment.migrate()
        async with asyncio.timeout(PATIENCE):
            while await post.event("1") != 204:  # noqa: ASYNC110  # as a sender does
                await asyncio.sleep(0.01)


def environment(url: str) -> dict[str, str]:
    return {"TORPOR_DELIVERY": "push", "TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": url}


class Fault(Exception):
    """What a handler raises."""


def stateless(retry: Retry, calls: list[str], failures: int) -> Service:
    """A service without a database, whose handler fails so many times."""
    mail = Service("mail")

    @mail.on(Placed, retry=retry)
    async def send(event: Placed) -> None:
        calls.append(event.id)
        if len(calls) <= failures:
            raise Fault

    return mail


@pytest.mark.parametrize(
    ("retry", "failures", "statuses"),
    [
        (Retry(attempts=1), 0, [204]),
        (Retry(attempts=1), 9, [422]),
        (Retry(attempts=3), 2, [204]),
        (Retry(attempts=1, later=[5]), 1, [503, 204]),
    ],
    ids=["good", "for good", "tried again here", "to be tried later"],
)
@pytest.mark.parametrize("is_taken", [False, True], ids=["answered", "taken"])
async def test_a_service_without_a_database_tells_the_sender(
    retry: Retry, failures: int, statuses: list[int], *, is_taken: bool
) -> None:
    """It can park nothing: what fails for good is 422, and what is to be tried later is 503."""
    async with running(stateless(retry, [], failures)) as deployment:
        post = Post(PushEndpoint(deployment.hosts), is_taken=is_taken)
        assert [await post.event("1", path="/-/events/mail.send") for _ in statuses] == statuses


@pytest.mark.parametrize("is_taken", [False, True], ids=["answered", "taken"])
async def test_a_payload_that_does_not_fit_a_service_without_a_database_is_refused(*, is_taken: bool) -> None:
    """422: the sender's dead-letter sink is where it belongs."""
    async with running(stateless(Retry(), [], 0)) as deployment:
        post = Post(PushEndpoint(deployment.hosts), is_taken=is_taken)
        assert await post.event("1", amount="many", path="/-/events/mail.send") == 422


async def test_a_batch_of_a_service_without_a_database_is_answered_as_its_worst() -> None:
    """With one that is refused it is refused, though the others are handled."""
    calls: list[str] = []
    async with running(stateless(Retry(), calls, 0)) as deployment:
        post = Post(PushEndpoint(deployment.hosts))
        broken: dict[str, Any] = {**structured("2"), "data": {}}
        assert await post.batch(structured("1"), broken, structured("3"), path="/-/events/mail.send") == 422
        assert sorted(calls) == ["1", "3"]


async def test_who_posts_may_have_to_show_who_it_is() -> None:
    """With a guard an event without a good token is answered 401, whatever is at its path, and nothing is handled."""
    key = "k" * 32
    guard = guards(SystemClock())(ApiKeys({sha256(key.encode()).hexdigest(): Caller("kafka-source")}))
    calls: list[str] = []
    async with running(stateless(Retry(), calls, 0)) as deployment:
        post = Post(PushEndpoint(deployment.hosts, guard=guard), is_taken=True)
        assert await post.event("1", path="/-/events/mail.send") == 401
        assert (await post.raw(path="/-/events/mail.nobody")).status == 401
        assert not calls
        assert not post.taken
        shown = {"x_api_key": key, "content_type": STRUCTURED}
        answer = await post.raw(json.dumps(structured("1")).encode(), path="/-/events/mail.send", **shown)
        assert (answer.status, calls) == (204, ["1"])


def test_an_issuer_of_tokens_for_pushes_needs_an_audience() -> None:
    """One without the other would let in whoever has a token for something else."""
    with pytest.raises(ConfigurationError, match="TORPOR_PUSH_AUDIENCE"):
        Settings.read({"TORPOR_PUSH_ISSUER": "https://id.test"})
    settings = Settings.read({"TORPOR_PUSH_ISSUER": "https://id.test", "TORPOR_PUSH_AUDIENCE": "orders"})
    assert (settings.push_issuer, settings.push_audience) == ("https://id.test", "orders")
