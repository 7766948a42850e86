"""Binding: what is read from a declaration, and every mistake that is told."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from torpor import Command, Depends, Event, Message, Park, Retry, Router, Service, Transactions, Tx
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.binding import bind
from torpor.runtime.topology import topology_of

if TYPE_CHECKING:
    from decimal import Decimal


class Placed(Event, topic="orders.placed", key="order_id"):
    order_id: str


class Paid(Event, topic="orders.paid"):
    order_id: str


class Told(Event, topic="orders.told"):
    order_id: str


class Topicless(Event):
    order_id: str


class BadTopic(Event, topic="orders.*"):
    order_id: str


class BadKey(Event, topic="orders.bad", key="order"):
    order_id: str


class Pay(Command, topic="payments.pay"):
    order_id: str


def problems(service: Service) -> str:
    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    return str(caught.value)


def test_what_a_handler_publishes_is_known_without_running() -> None:
    """Return annotations, `publishes=` and the events that the code names with a Tx are all found."""
    service = Service("orders")

    @service.on(Placed, publishes=[Topicless])
    async def one(event: Placed, tx: Tx) -> Paid | Park | None:
        tx.publish(Told(order_id=event.order_id))
        return None

    @service.on(Paid)
    async def many(event: Paid) -> list[Told]:
        return []

    with pytest.raises(ConfigurationError, match="Topicless, which has no topic"):
        bind(service)
    service.declarations[0].publishes = ()
    plan = bind(service)
    published = {binding.handled.name: binding.handled.publishes for binding in plan.subscribers}
    assert published == {"orders.one": {Paid, Told}, "orders.many": {Told}}
    assert plan.topics == ("orders.paid", "orders.placed", "orders.told")


def test_a_decorator_returns_the_function() -> None:
    """A handler stays an ordinary function, that a unit test may call."""
    service = Service("orders")

    async def handle(event: Placed) -> None: ...

    assert service.on(Placed)(handle) is handle


def test_every_mistake_is_told_at_once() -> None:
    """All mistakes of a service come in one error, each with file and line and what to do."""
    service = Service("Orders!")

    @service.on(Topicless)
    async def topicless(event: Topicless) -> None: ...

    @service.on(BadTopic)
    async def bad_topic(event: BadTopic) -> None: ...

    @service.on(BadKey)
    async def bad_key(event: BadKey) -> None: ...

    @service.on(Placed)
    async def unknown(event: Placed, price: int) -> None: ...

    @service.on(Placed, group="second")
    async def untyped(event: Placed, thing) -> None: ...  # type: ignore[no-untyped-def]  # the mistake under test

    @service.on(Placed, group="third")
    async def no_event(event: Placed) -> str:
        return ""

    @service.on(Placed, group="fourth")
    async def no_return(event: Placed): ...  # type: ignore[no-untyped-def]  # the mistake under test

    @service.on(Placed, group="fifth")
    def no_coroutine(event: Placed) -> None: ...

    @service.on(Placed, group="sixth")
    async def no_payload(tx: Tx) -> None: ...

    @service.on(Placed, group="seventh")
    async def unreadable(event: Placed, price: "Decimal") -> None: ...

    @service.on(Placed, group="eighth", retry=5)  # type: ignore[arg-type]  # the mistake under test
    async def bad_policy(event: Placed) -> None: ...

    text = problems(service)
    assert __file__ in text
    for expected in (
        "Service 'Orders!'",
        "uses Topicless, which has no topic",
        "whose topic is 'orders.*'",
        "whose key 'order' is none of its fields. Did you mean 'order_id'?",
        "asks for 'price: int', which Torpor cannot fill",
        "does not say the type of 'thing'",
        "returns 'str', which is no event",
        "does not say what it returns",
        "is no coroutine",
        "takes no Placed",
        "Import 'Decimal' at the top of its module",
        "has retry=5",
    ):
        assert expected in text
    assert text.startswith("12 problems to fix:")


def test_a_topic_has_one_handler_in_a_group() -> None:
    """Two handlers of a topic in one group are refused, both named; another group is allowed."""
    service = Service("orders")

    @service.on(Placed)
    async def first(event: Placed) -> None: ...

    @service.on(Placed)
    async def second(event: Placed) -> None: ...

    @service.on(Placed, group="audit")
    async def third(event: Placed) -> None: ...

    text = problems(service)
    assert "1 problem" in text
    assert "'orders.second'" in text
    assert "'orders.first'" in text
    assert "listens to 'orders.placed' twice" in text


def test_names_and_routes_are_taken_once() -> None:
    """Two handlers of one name, or of one method and path, are refused."""
    service = Service("orders")

    def handler() -> Any:
        async def same() -> None: ...

        return same

    service.get("/a")(handler())
    service.get("/a")(handler())
    text = problems(service)
    assert "has the name of another" in text
    assert "answers GET /a twice" in text


def test_a_route_is_checked() -> None:
    """Path, path parameters and options of a route are checked, with the nearest name suggested."""
    service = Service("orders")

    @service.get("orders")
    async def no_slash() -> None: ...

    @service.get("/-/mine")
    async def reserved() -> None: ...

    @service.get("/orders/{order_id}")
    async def mistyped(orderid: str) -> None: ...

    @service.get("/x", statuscode=202)  # type: ignore[call-arg]  # the mistake under test
    async def unknown_option() -> None: ...

    text = problems(service)
    for expected in (
        "A path starts with '/'",
        "Paths under /-/ are Torpor's own",
        "has {order_id} in its path, and no parameter of that name. Did you mean 'orderid'?",
        "has an unknown option 'statuscode'. Did you mean 'status_code'?",
    ):
        assert expected in text


def test_parameters_of_a_route_are_left_to_fastapi() -> None:
    """What Torpor does not fill is FastAPI's, types resolved; Tx and dependencies are not shown to it."""
    service = Service("orders", prefix="/v1")

    def clock() -> float:
        return 0.0

    @service.post("/orders/{id}", status_code=202, tags=["x"])
    async def place(id: str, tx: Tx, now: Annotated[float, Depends(clock)], limit: int = 5) -> dict[str, str]:
        return {}

    (route,) = bind(service).routes
    assert [(p.name, p.annotation) for p in route.foreign] == [("id", str), ("limit", int)]
    assert (route.method, route.path) == ("POST", "/v1/orders/{id}")
    assert route.options == {"status_code": 202, "tags": ["orders", "x"]}
    assert route.handled.call.uses_tx


def test_routers_nest_with_their_prefixes() -> None:
    """Routers in routers add their prefixes and tags, and their handlers belong to the service."""
    service, outer, inner = Service("orders"), Router(prefix="/a", tags=["a"]), Router(prefix="/b")

    @inner.get("/c")
    async def leaf() -> None: ...

    outer.include(inner)
    service.include(outer)
    (route,) = bind(service).routes
    assert (route.path, route.handled.name, route.options["tags"]) == ("/a/b/c", "orders.leaf", ["orders", "a"])


def test_a_route_takes_no_message() -> None:
    """A route that asks for the message in hand is refused: a request comes without one."""
    service = Service("orders")

    @service.get("/x")
    async def handle(message: Message) -> None: ...

    assert "asks for Message" in problems(service)


def test_what_a_route_takes_in_it_may_pass_on() -> None:
    """An event that is a route's body, or is named by a dependency's code, counts as published."""
    service = Service("orders")

    def told(tx: Tx) -> None:
        tx.publish(Told(order_id="1"))

    @service.post("/x")
    async def handle(event: Placed, tx: Tx, told: Annotated[None, Depends(told)]) -> None:
        tx.publish(event)

    assert bind(service).routes[0].handled.publishes == {Placed, Told}


def test_migrations_may_be_given_as_text() -> None:
    """A small service may give its migrations itself; they come in the order of their names."""
    service = Service("orders", migrations={"0002_b.sql": "B", "0001_a.sql": "A"})
    assert list(service.migrations()) == ["0001_a.sql", "0002_b.sql"]
    with pytest.raises(ConfigurationError, match="no folder"):
        Service("orders", migrations="nowhere").migrations()


def test_a_circle_of_dependencies_is_told() -> None:
    """A dependency that needs itself is refused at binding rather than at the first message."""
    service = Service("orders")

    @service.on(Placed)
    async def handle(event: Placed, x: Annotated[int, Depends(circular)]) -> None: ...

    assert "depends on itself" in problems(service)


def circular(x: Annotated[int, Depends(lambda: 1)]) -> int:
    return x


circular.__annotations__["x"] = Annotated[int, Depends(circular)]


def test_a_lifespan_must_be_a_generator() -> None:
    """A lifespan that is no async generator is refused, with the form it should have."""
    service = Service("orders")

    @service.lifespan  # type: ignore[arg-type]  # the mistake under test
    async def client() -> int:
        return 1

    assert "must be an async generator" in problems(service)


def test_dependencies_may_ask_for_tx_message_and_each_other() -> None:
    """A dependency's own parameters are filled as a handler's are; what cannot be filled is told."""
    service = Service("orders")

    @service.lifespan
    async def client() -> AsyncIterator[int]:
        yield 1

    async def user(tx: Tx, message: Message, client: Annotated[int, Depends(client)]) -> str:
        return ""

    async def broken(header: str) -> str:
        return header

    @service.on(Placed, retry=Retry(attempts=2))
    async def good(event: Placed, user: Annotated[str, Depends(user)]) -> None: ...

    assert bind(service).subscribers[0].handled.call.uses_tx

    @service.on(Paid)
    async def bad(event: Paid, user: Annotated[str, Depends(broken)]) -> None: ...

    assert "asks for 'header: str', which Torpor cannot fill" in problems(service)


def test_the_topology_tells_both_ends_of_a_topic() -> None:
    """Who publishes and who listens is told as JSON and as a Mermaid chart."""
    orders, payments = Service("orders"), Service("payments")

    @orders.post("/orders")
    async def place(tx: Tx) -> None:
        tx.publish(Placed(order_id="1"))

    @payments.on(Placed)
    async def pay(event: Placed) -> Paid:
        return Paid(order_id="1")

    topology = topology_of([bind(orders), bind(payments)])
    topics = {topic["topic"]: topic for topic in topology.to_dict()["topics"]}
    assert topics["orders.placed"]["publishers"] == ["orders.place"]
    assert topics["orders.placed"]["listeners"] == ["payments.pay"]
    assert "orders -->|orders.placed| payments" in topology.to_mermaid()
    assert "payments -->|orders.paid| nobody" in topology.to_mermaid()


def test_a_command_has_one_handler() -> None:
    """A command that two services handle is a mistake that only the whole topology shows."""
    plans = []
    for name in ("one", "two"):
        service = Service(name)

        @service.on(Pay)
        async def pay(command: Pay) -> None: ...

        plans.append(bind(service))
    assert "handled by one and two" in topology_of(plans).problems()[0]


def test_only_a_route_makes_its_own_transactions() -> None:
    """A route may begin transactions itself; an event handler, or a route that has one, may not."""
    service = Service("orders")

    @service.get("/good")
    async def good(transactions: Transactions) -> None: ...

    assert bind(service).needs_store

    @service.get("/both")
    async def both(transactions: Transactions, tx: Tx) -> None: ...

    @service.on(Placed)
    async def handle(event: Placed, transactions: Transactions) -> None: ...

    text = problems(service)
    assert "asks for Tx and for Transactions" in text
    assert "which only a route can" in text
