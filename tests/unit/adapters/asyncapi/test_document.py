"""The AsyncAPI document of bound services."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from torpor import ApiKeys, Ask, Event, Jwt, Request, Service, Socket, Tx
from torpor.adapters.asyncapi.document import document
from torpor.runtime.binding import bind

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"[A-Za-z0-9._-]+")


class Line(BaseModel):
    sku: str


class OrderPlaced(Event, topic="orders.placed", key="order_id"):
    """A customer asks for goods."""

    order_id: str
    lines: list[Line]


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    kind: Literal["cash"]


class Paid(Event, topic="payments.paid"):
    means: Annotated[Card | Cash, Field(discriminator="kind")]
    odd: int = Field(alias="ce:odd")


def namesakes() -> type[Event]:
    """Another team's contract of the same name, with a nested model of the same name."""

    class Line(BaseModel):
        quantity: int

    class OrderPlaced(Event, topic="elsewhere.placed"):
        total: int
        lines: list[Line]

    return OrderPlaced


OtherPlaced = namesakes()


class Quote(BaseModel):
    lines: list[Line]


class GetQuote(Request[Quote | None], topic="quotes.get"):
    """What it would cost."""

    sku: str


class Ticked(Event, topic="quotes.ticked", durable=False):
    sku: str


def quotes() -> Service:
    """Asks, answers, and hears what is fleeting."""
    service = Service("quotes")

    @service.answer(GetQuote)
    async def quote(request: GetQuote) -> Quote | None: ...

    @service.on(Ticked)
    async def hear(event: Ticked, ask: Ask) -> None:
        await ask(GetQuote(sku=event.sku))

    return service


def orders() -> Service:
    """Publishes."""
    service = Service("orders")

    @service.post("/orders")
    async def place(tx: Tx) -> str:
        tx.publish(OrderPlaced(order_id="1", lines=[]))
        return "placed"

    return service


def payments() -> Service:
    """Listens and publishes."""
    service = Service("payments")

    @service.on(OrderPlaced)
    async def take(event: OrderPlaced, tx: Tx) -> Paid | None:
        """Takes the money."""

    @service.on(OtherPlaced, group="others")
    async def other(event: OtherPlaced) -> None: ...  # type: ignore[valid-type]

    return service


def stock() -> Service:
    """Listens to the same topic, with a handler of the same name."""
    service = Service("stock")

    @service.on(OrderPlaced)
    async def take(event: OrderPlaced) -> None: ...

    return service


class Bid(BaseModel):
    lines: list[Line]


class Won(BaseModel):
    by: str


class Odd:
    """What has no schema."""


people = Jwt("https://id.example.com", "auctions") | ApiKeys({})


def auctions() -> Service:
    """Takes WebSockets."""
    service = Service("auctions", auth=people.needs("bid"))

    async def come(socket: Socket, kind: str) -> None: ...

    @service.socket("/auctions/{kind}/{lot}/{rest:path}", connect=come)
    async def bid(
        message: Card | Cash | Bid, kind: Literal["art", "cars"], lot: int, rest: str
    ) -> list[Won | str] | None:
        """Bids for a lot."""

    @service.socket("/odd", public=True)
    async def odd(message: str) -> Odd: ...

    @service.socket("/raw", public=True)
    async def raw(message: bytes) -> None: ...

    @service.socket("/typed", public=True, sends=[Won])
    async def typed(message: str, socket: Socket) -> None: ...

    return service


def made(*services: Service, broker_url: str | None = "nats://app:secret@broker:4222") -> dict[str, Any]:
    """The document of some services."""
    return document([bind(service) for service in services], "shop", version="1.2.3", broker_url=broker_url)


def references(node: Any) -> Iterator[str]:
    """All that a document points to."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def target(root: dict[str, Any], reference: str) -> Any:
    """What a reference points to."""
    node: Any = root
    for part in reference.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def payload(root: dict[str, Any], operation: str) -> dict[str, Any]:
    """The schema of an operation's only message."""
    (reference,) = root["operations"][operation]["messages"]
    message = target(root, target(root, reference["$ref"])["$ref"])
    found: dict[str, Any] = target(root, message["payload"]["$ref"])
    return found


def test_every_binding_is_an_operation() -> None:
    """Subscribers receive and published contracts are sent, each on a channel with the topic as its address."""
    root = made(orders(), payments(), stock())
    assert root["asyncapi"] == "3.0.0"
    assert root["info"] == {"title": "shop", "version": "1.2.3"}
    assert root["defaultContentType"] == "application/json"
    told = {
        name: (operation["action"], target(root, operation["channel"]["$ref"])["address"])
        for name, operation in root["operations"].items()
    }
    other = next(name for name in root["components"]["schemas"] if "namesakes" in name and "OrderPlaced" in name)
    mine = next(name for name in root["components"]["schemas"] if "OrderPlaced" in name and "namesakes" not in name)
    assert told == {
        f"orders.publishes.{mine}": ("send", "orders.placed"),
        "payments.other": ("receive", "elsewhere.placed"),
        "payments.publishes.Paid": ("send", "payments.paid"),
        "payments.take": ("receive", "orders.placed"),
        "stock.take": ("receive", "orders.placed"),
    }
    assert payload(root, "payments.other") == root["components"]["schemas"][other]
    assert root["channels"]["payments.take"]["description"] == "Takes the money."
    assert root["channels"]["payments.other"]["bindings"]["nats"]["queue"] == "others"


def test_a_contract_is_described_by_its_fields() -> None:
    """A message's payload is the contract's schema; without namesakes it has the contract's own name."""
    root = made(orders(), stock())
    assert list(root["components"]["schemas"]) == ["Line", "OrderPlaced"]
    schema = payload(root, "stock.take")
    assert schema["description"] == "A customer asks for goods."
    assert schema["required"] == ["order_id", "lines"]
    assert schema["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/Line"}
    assert payload(root, "orders.publishes.OrderPlaced") == schema


def test_a_request_is_told_with_its_answer() -> None:
    """Who asks and who answers are operations with a reply, whose schema is the answer's; a listener is one as well."""
    root = made(quotes(), payments())
    operations = root["operations"]
    asks, answers = operations["quotes.asks.GetQuote"], operations["quotes.quote"]
    assert (asks["action"], answers["action"], operations["quotes.hear"]["action"]) == ("send", "receive", "receive")
    for operation in (asks, answers):
        (reference,) = (message["$ref"] for message in operation["reply"]["messages"])
        message = target(root, target(root, reference)["$ref"])
        schema = target(root, message["payload"]["$ref"])
        assert {"type": "null"} in schema["anyOf"]
        assert target(root, operation["reply"]["channel"]["$ref"])["address"] is None
    assert payload(root, "quotes.quote")["description"] == "What it would cost."
    for reference in references(root):
        assert target(root, reference) is not None


def test_a_socket_is_a_channel_of_its_own_server() -> None:
    """What clients say and are sent are operations, with their types; channels of the broker stay with it."""
    root = made(orders(), auctions())
    assert root["servers"]["websockets"]["protocol"] == "ws"
    channel = root["channels"]["auctions.bid.socket"]
    assert channel["address"] == "/auctions/{kind}/{lot}/{rest}"
    assert channel["parameters"] == {
        "kind": {"enum": ["art", "cars"]},
        "lot": {"description": "As text: integer."},
        "rest": {},
    }
    assert channel["servers"] == [{"$ref": "#/servers/websockets"}]
    says, sends = root["operations"]["auctions.bid"], root["operations"]["auctions.bid.sends"]
    assert (says["action"], says["description"], sends["action"]) == ("receive", "Bids for a lot.", "send")
    assert [part["$ref"] for part in payload(root, "auctions.bid")["anyOf"]] == [
        f"#/components/schemas/auctions.bid.message.{name}" for name in ("Card", "Cash", "Bid")
    ]
    sent = [target(root, target(root, message["$ref"])["$ref"]) for message in sends["messages"]]
    assert [message.get("contentType") for message in sent] == ["application/json", "text/plain", None]
    assert "sends=[...]" in sent[2]["description"]
    (placed,) = [channel for channel in root["channels"].values() if channel["address"] == "orders.placed"]
    assert placed["servers"] == [{"$ref": "#/servers/broker1"}]


def test_a_socket_tells_what_it_knows_and_who_may_connect() -> None:
    """Bytes are bytes, types that are named are told and no others, and ways to show who one is are schemes."""
    root = made(auctions(), broker_url=None)
    assert payload(root, "auctions.raw") == {"type": "string", "format": "binary"}
    assert "auctions.raw.sends" not in root["operations"]
    (odd,) = root["operations"]["auctions.odd.sends"]["messages"]
    assert "payload" not in target(root, target(root, odd["$ref"])["$ref"])
    assert list(payload(root, "auctions.typed.sends")["properties"]) == ["by"]
    assert "security" not in root["operations"]["auctions.typed"]
    schemes = [target(root, scheme["$ref"]) for scheme in root["operations"]["auctions.bid"]["security"]]
    assert [(scheme["type"], scheme.get("scheme")) for scheme in schemes] == [("http", "bearer"), ("httpApiKey", None)]
    assert all("Needs bid." in scheme["description"] for scheme in schemes)


def test_channels_without_a_broker_are_not_those_of_sockets() -> None:
    """Beside sockets, what a broker in memory carries has a server that says so."""
    root = made(orders(), auctions(), broker_url=None)
    assert set(root["servers"]) == {"memory", "websockets"}


def test_namesakes_keep_their_own_schemas() -> None:
    """Two contracts of one name, and the two models of one name inside them, are told apart."""
    root = made(payments())
    ours, theirs = payload(root, "payments.take"), payload(root, "payments.other")
    assert set(ours["properties"]) == {"order_id", "lines"}
    assert set(theirs["properties"]) == {"total", "lines"}
    inside = [target(root, one["properties"]["lines"]["items"]["$ref"]) for one in (ours, theirs)]
    assert [list(one["properties"]) for one in inside] == [["sku"], ["quantity"]]


def test_a_discriminator_is_the_name_of_a_property() -> None:
    """AsyncAPI wants a name where OpenAPI wants an object, and a field's own name is left as it is."""
    schema = payload(made(payments()), "payments.publishes.Paid")
    assert schema["properties"]["means"]["discriminator"] == "kind"
    assert "ce:odd" in schema["properties"]


def test_every_reference_leads_somewhere_and_every_name_is_legal() -> None:
    """Nothing points into the void, and the names of components are what the specification allows."""
    root = made(orders(), payments(), stock(), auctions(), quotes())
    found = list(references(root))
    assert len(found) > 20
    assert all(isinstance(target(root, reference), dict) for reference in found)
    components = root["components"]
    names = [*components["messages"], *components["schemas"], *root["channels"], *root["operations"], *root["servers"]]
    assert all(NAME.fullmatch(name) for name in names)
    carried = [message for message in components["messages"].values() if "correlationId" in message]
    assert {message["correlationId"]["location"] for message in carried} == {"$message.header#/ce-correlationid"}


@pytest.mark.parametrize(
    ("broker_url", "hosts"),
    [
        ("nats://app:secret@broker:4222", ["broker:4222"]),
        ("nats://secret@one:4222/secret?secret=1, tls://app:secret@two:4223", ["one:4222", "two:4223"]),
        ("app:secret@bare:4222", ["bare:4222"]),
        ("kafka://app:secret@one:9092,two:9092?sasl=PLAIN", ["one:9092", "two:9092"]),
        ("memory://", []),
        (None, []),
    ],
)
def test_servers_are_told_without_secrets(broker_url: str | None, hosts: list[str]) -> None:
    """Only hosts and ports of a broker's URL appear; a broker in memory has no server, and all its channels."""
    root = made(orders(), broker_url=broker_url)
    assert [server["host"] for server in root["servers"].values()] == hosts
    assert "secret" not in json.dumps(root)
    assert list(root["channels"]) == ["orders.publishes.OrderPlaced"]


def test_a_document_over_kafka_says_so() -> None:
    """Servers, the header of the correlation id and the operations are Kafka's."""
    root = made(orders(), payments(), broker_url="kafka://host:9092")
    assert [server["protocol"] for server in root["servers"].values()] == ["kafka"]
    locations = {message["correlationId"]["location"] for message in root["components"]["messages"].values()}
    assert locations == {"$message.header#/ce_correlationid"}
    assert sorted(root["operations"]) == sorted(made(orders(), payments())["operations"])


def test_a_document_is_the_same_each_time() -> None:
    """Making it twice gives one text, in the order of the names."""
    services = (orders(), payments(), stock(), auctions())
    assert json.dumps(made(*services)) == json.dumps(made(*services))
    root = made(*services)
    assert list(root["channels"]) == sorted(root["channels"])
    assert list(root["operations"]) == sorted(root["operations"])
    assert list(root["components"]["schemas"]) == sorted(root["components"]["schemas"])


def test_a_service_without_messages_has_an_empty_document() -> None:
    """No channel is no mistake."""
    root = made(Service("quiet"))
    assert (root["channels"], root["operations"], root["components"]["schemas"]) == ({}, {}, {})


def test_without_faststream_it_says_what_to_install() -> None:
    """Importing the module is cheap, and its use without FastStream is a mistake of the installation."""
    code = (
        "import sys; sys.modules['faststream'] = None\n"
        "from torpor.adapters.asyncapi.document import document\n"
        "from torpor.kernel.errors import ConfigurationError\n"
        "try: document([], 'x', version='1', broker_url=None)\n"
        "except ConfigurationError as error: print(error.problems[0])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "AsyncAPI needs FastStream. Install torpor[nats] or torpor[kafka].\n"
