"""The AsyncAPI document as AsyncAPI's own parser reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003  # beside the others, which are read when a handler is bound
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml
from pydantic import BaseModel, Field

from tests.integration.asyncapi_parser import Absent, parsed
from torpor import (
    ApiKeys,
    Ask,
    Caller,
    ClientCertificate,
    CustomAuth,
    Event,
    Jwt,
    Order,
    Raw,
    Request,
    Service,
    Socket,
    Tx,
    event,
)
from torpor.adapters.asyncapi.document import document
from torpor.cli import main
from torpor.runtime.binding import bind

SERVICES = Path(__file__).resolve().parents[2] / "services"
INFORMATION = 2  # the severity of a remark; smaller ones are errors and warnings
BROKERS = [None, "nats://app:s3cret@one:4222", "tls://one:4222,tls://two:4222", "kafka://one:9092,two:9092?tls=yes"]


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    kind: Literal["cash"]
    back: "Cash | None" = None


class Line(msgspec.Struct):
    sku: str
    inner: list[Line] = []


class Paid(Event, topic="payments.paid", key="order_id", version=2, upcasts={1: lambda old: {**old, "tip": 0}}):
    """Money: taken."""

    order_id: str
    tip: int
    means: Annotated[Card | Cash, Field(discriminator="kind")]
    odd: int = Field(alias="ce:odd")


class Noted(Event, topic="notes"):
    """Without a key."""

    text: str


@event(topic="ticks", key="symbol")
class Tick(msgspec.Struct):
    """Of msgspec's."""

    symbol: str
    lines: list[Line] = []


class Photo(Event, topic="photos", codec=Raw("image/png")):
    """Bytes as they are."""

    image: bytes


class GetPrice(Request[Card | None], topic="prices.get"):
    """A question."""

    sku: str


class Seen(Event, topic="seen", durable=False):
    """Fleeting."""

    sku: str


async def anybody(headers: Mapping[str, str]) -> Caller | None:
    """Lets nobody in."""
    return None


def namesake() -> type[Event]:
    """Another contract of the same name."""

    class Paid(Event, topic="elsewhere.paid"):
        total: int

    return Paid


OtherPaid = namesake()


def everything() -> list[Service]:
    """Services with all that a document can tell."""
    first, second = Service("first-service"), Service("second")

    @first.post("/pay")
    async def pay(tx: Tx) -> None:
        """Takes it: now."""
        tx.publish(Paid(order_id="1", tip=0, means=Cash(kind="cash"), **{"ce:odd": 1}))

    @first.on(Noted, order=Order.NONE)
    async def note(event: Noted) -> Tick | Photo | None:
        return None

    @first.every(60)
    async def remind(tx: Tx) -> Noted:
        return Noted(text="again")

    @second.on(Paid, group="others", name="second.paid")
    async def paid(event: Paid, tx: Tx) -> list[Noted]:
        return []

    @second.on(Tick)
    async def tick(event: Tick) -> None: ...

    @second.on(Photo)
    async def photo(event: Photo) -> None: ...

    @second.on(OtherPaid)
    async def other(event: OtherPaid) -> None: ...  # type: ignore[valid-type]

    @second.on(Seen)
    async def seen(event: Seen, ask: Ask) -> None:
        await ask(GetPrice(sku=event.sku))

    @first.answer(GetPrice)
    async def price(request: GetPrice) -> Card | None:
        return None

    ways = Jwt("https://id.example.com", "shop") | ApiKeys({}) | ClientCertificate("x-cert") | CustomAuth(anybody)

    @first.socket("/chat/{kind}/{number}/{rest:path}", auth=ways.needs("chat"))
    async def talk(message: Paid | Card, kind: Literal["a", "b"], number: int, rest: str) -> list[Cash | str] | bytes:
        """Talks: here."""
        return []

    @second.socket("/all", public=True)
    async def hear(message: Annotated[Card | Cash, Field(discriminator="kind")], socket: Socket) -> None: ...

    return [first, second]


def read(text: str) -> dict[str, Any]:
    """The operations that the parser has found, in a document that it has nothing against."""
    try:
        told = parsed(text)
    except Absent as error:
        pytest.skip(str(error))
    assert [said for said in told["diagnostics"] if said["severity"] < INFORMATION] == []
    operations: dict[str, Any] = told["operations"]
    return operations


@pytest.mark.parametrize("url", BROKERS)
def test_a_document_with_everything_is_valid(url: str | None) -> None:
    """The parser has no error and no warning, and finds each operation with its address and a payload."""
    made = document([bind(service) for service in everything()], "every: thing", version="1.0.0", broker_url=url)
    operations = read(json.dumps(made))

    assert set(operations) == set(made["operations"])
    found = {(operation["action"], *operation["channels"]) for operation in operations.values()}
    topics = {"payments.paid", "notes", "ticks", "photos", "prices.get"}
    sockets = {"/chat/{kind}/{number}/{rest}", "/all"}
    assert {address for action, address in found if action == "receive"} == topics | sockets | {
        "elsewhere.paid",
        "seen",
    }
    assert {address for action, address in found if action == "send"} == topics | sockets
    unknown = operations.pop("second.hear.sends")  # what it sends by hand
    assert unknown["payloads"] == [False]
    assert all(all(operation["payloads"]) for operation in operations.values())


@pytest.mark.parametrize("url", [None, "nats://app:s3cret@one:4222", "kafka://app:s3cret@one:9092"])
def test_the_command_writes_a_valid_document_of_the_shop(
    url: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torpor asyncapi` prints JSON or writes YAML, which read the same, are valid, and hold no secret."""
    if url is not None:
        monkeypatch.setenv("TORPOR_BROKER_URL", url)
    out = tmp_path / "shop.yaml"

    assert main(["asyncapi", str(SERVICES), "--title", "the shop"]) == 0
    printed = capsys.readouterr().out
    assert main(["asyncapi", str(SERVICES), "--title", "the shop", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""

    text = out.read_text()
    assert yaml.safe_load(text) == json.loads(printed)
    assert json.loads(printed)["info"]["title"] == "the shop"
    assert "s3cret" not in printed + text
    assert set(read(text)) == set(read(printed)) >= {"payments.publishes.PaymentTaken"}


def test_an_unknown_form_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Another form than JSON and YAML is a mistake."""
    assert main(["asyncapi", str(SERVICES), "--format", "xml"]) == 2
    assert "--format is 'xml'. Expected json or yaml." in capsys.readouterr().err
