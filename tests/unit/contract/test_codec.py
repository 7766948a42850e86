"""Payloads: JSON by pydantic, msgspec Structs, bytes, and a format of one's own with a registry of schemas."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from torpor import Event, Raw, command, event
from torpor.contract.checks import problems_of
from torpor.contract.codec import decode, decoder_of, encode
from torpor.kernel.errors import DecodeError, StoreUnavailable
from torpor.kernel.message import Message


class Placed(Event, topic="placed", key="order_id"):
    order_id: str = Field(alias="orderId")


@event(topic="ticks", key="symbol")
class Tick(msgspec.Struct, frozen=True):
    symbol: str
    price: float


class Photo(Event, topic="photos", codec=Raw("image/png")):
    image: bytes = Field(max_length=10)


class Blob(Event, topic="blobs", codec=Raw()):
    data: bytes


class Registry:
    """Schemas by number, as a registry hands them out: here, the order of the fields."""

    def __init__(self, schemas: dict[int, list[str]]) -> None:
        self.schemas = schemas


class Framed:
    """A codec as they are for Avro: a zero byte, the number of the writer's schema, and values without names."""

    content_type = "application/vnd.framed"

    def __init__(self, registry: Registry, number: int) -> None:
        self.registry = registry
        self.number = number

    def encode(self, payload: Any) -> bytes:
        fields = self.registry.schemas[self.number]
        values = msgspec.msgpack.encode([getattr(payload, field) for field in fields])
        return b"\0" + self.number.to_bytes(4, "big") + values

    def decode(self, contract: type[Any], data: bytes, dataschema: str | None) -> Any:
        if data[:1] != b"\0":
            raise ValueError("the payload has no frame")
        number = int.from_bytes(data[1:5], "big")
        if number == 404:
            raise StoreUnavailable("The registry is away.")
        if number not in self.registry.schemas:
            raise KeyError(number)
        values = msgspec.msgpack.decode(data[5:])
        return contract(**dict(zip(self.registry.schemas[number], values, strict=True)))

    def dataschema(self, contract: type[Any]) -> str | None:
        return f"https://schemas.example/{self.number}"

    def schema(self, contract: type[Any]) -> dict[str, Any] | None:
        return None


REGISTRY = Registry({1: ["id"], 2: ["id", "note"]})


class Noted(Event, topic="noted", key="id", version=2, codec=Framed(REGISTRY, 2)):
    id: str
    note: str = "none"


def _sent(payload: Any) -> Message:
    return encode(payload, id="1", key=None, attributes={"source": "test", "datacontenttype": "application/json"})


def _message(contract: Any, data: bytes, **attributes: str) -> Message:
    return Message(contract.__torpor_topic__, data, id="1", type="", attributes=attributes)


@pytest.mark.parametrize(
    ("payload", "key", "data", "content_type"),
    [
        (Placed(orderId="o1"), "o1", b'{"orderId":"o1"}', "application/json"),
        (Tick("X", 1.5), "X", b'{"symbol":"X","price":1.5}', "application/json"),
        (Photo(image=b"\x89PNG"), None, b"\x89PNG", "image/png"),
        (Blob(data=b"\0\xff"), None, b"\0\xff", "application/octet-stream"),
        (Noted(id="n", note="x"), "n", b"\0\0\0\0\2\x92\xa1n\xa1x", "application/vnd.framed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_codec_gives_back_what_it_was_given(payload: Any, key: str, data: bytes, content_type: str) -> None:
    """A payload is written in its own format, says so, has its key, and is read as the same value."""
    message = _sent(payload)

    assert (message.data, message.key, message.attributes["datacontenttype"]) == (data, key, content_type)
    assert decode(type(payload), message) == payload


def test_a_codec_writes_the_address_of_its_schema_and_the_version() -> None:
    """`dataschema` is the codec's, `dataversion` the contract's; the first version of JSON adds nothing."""
    framed, plain = _sent(Noted(id="n")).attributes, _sent(Placed(orderId="o")).attributes

    assert (framed["dataschema"], framed["dataversion"]) == ("https://schemas.example/2", "2")
    assert plain == {"source": "test", "datacontenttype": "application/json"}


def test_a_codec_of_another_format_reads_what_is_older_itself() -> None:
    """An older version is handed to the codec, whose registry knows the writer's schema."""
    older = _message(Noted, b"\0\0\0\0\1\x91\xa1n", datacontenttype="application/vnd.framed")

    assert decode(Noted, older) == Noted(id="n", note="none")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "text/json", "application/x+json"],
)
@pytest.mark.parametrize("contract", [Placed, Tick])
def test_json_is_read_by_any_of_its_names(contract: Any, content_type: str) -> None:
    """Parameters, capitals and a `+json` subtype are JSON too, and so is a message that does not say."""
    data = b'{"orderId":"o","symbol":"X","price":1}'

    assert decode(contract, _message(contract, data, datacontenttype=content_type))
    assert decode(contract, _message(contract, data))


@pytest.mark.parametrize(
    ("contract", "content_type"),
    [
        (Placed, "text/plain"), (Placed, "application/avro"), (Placed, ""), (Tick, "application/xml"),
        (Photo, "image/jpeg"), (Photo, "application/json"), (Noted, "application/json"),
    ],
)  # fmt: skip
def test_another_content_type_is_told(contract: Any, content_type: str) -> None:
    """A message of another content type does not decode; the reason names both."""
    with pytest.raises(DecodeError) as told:
        decode(contract, _message(contract, b"{}", datacontenttype=content_type))

    assert f"carries {content_type!r}, and {contract.__name__} is" in str(told.value)


def test_raw_takes_bytes_of_any_type_unless_it_names_one() -> None:
    """`Raw()` has no say in what bytes are, and `Raw("image/png")` has."""
    assert decode(Blob, _message(Blob, b"<x/>", datacontenttype="application/xml")) == Blob(data=b"<x/>")
    assert decode(Photo, _message(Photo, b"png", datacontenttype="image/png; a=b")) == Photo(image=b"png")


@pytest.mark.parametrize(
    ("contract", "data", "told"),
    [
        (Placed, b"{}", "Placed does not fit: orderId: Field required"),
        (Tick, b"{}", "Tick does not fit: Object missing required field `symbol`"),
        (Tick, b"\xff", "Tick does not fit: "),
        (Tick, b"[" * 100_000, "Tick does not fit: "),
        (Tick, b'{"symbol":1,"price":1}', "Tick does not fit: Expected `str`, got `int` - at `$.symbol`"),
        (Tick, b'{"symbol":"\xff","price":1}', "Tick does not fit: "),
        (Photo, b"x" * 11, "Photo does not fit: image: Data should have at most 10 bytes"),
        (Noted, b"{}", "Noted does not fit: the payload has no frame."),
        (Noted, b"\0\0\0\0\7", "Noted does not fit: 7."),
        (Noted, b"\0\0\0\0\2\xc1", "Noted does not fit: "),
    ],
)
def test_what_does_not_fit_is_told_by_every_codec(contract: Any, data: bytes, told: str) -> None:
    """Bytes that are not the payload raise DecodeError, whatever the codec raised, so that they are parked."""
    with pytest.raises(DecodeError) as error:
        decode(contract, _message(contract, data))

    assert str(error.value).startswith(told)


def test_an_outage_in_a_codec_is_no_fault_of_the_bytes() -> None:
    """Torpor's own errors pass, so that the unit is tried again rather than the message parked."""
    with pytest.raises(StoreUnavailable):
        decode(Noted, _message(Noted, b"\0\0\0\1\x94"))


def test_what_is_declared_stands_on_the_class_alone() -> None:
    """The decorators return the class itself; a command is one; a model that is no `Event` may be an event too."""

    @command(topic="orders.place")
    class Place(BaseModel):
        sku: str

    class Plain(Place):
        pass

    assert Place.__name__ == "Place"
    assert Place.__torpor_is_command__  # type: ignore[attr-defined]  # the decorator's
    assert decode(Place, _sent(Place(sku="a"))) == Place(sku="a")
    assert not Tick.__torpor_is_command__  # type: ignore[attr-defined]  # the decorator's


def test_floats_beyond_json_are_null_or_parked_alike() -> None:
    """Infinity has no JSON: a Struct writes null, which is then parked and not taken for a number."""
    with pytest.raises(DecodeError, match="does not fit"):
        decode(Tick, _sent(Tick("X", math.inf)))


def test_the_mistakes_of_a_contract_are_told_before_anything_is_opened() -> None:
    """A class that nothing can write, a key that is no field, and bytes that are not the only field are told."""

    @event(topic="x", key="idd")
    class Odd(msgspec.Struct):
        id: str

    @event(topic="x")
    class Strange:
        pass

    class Two(Event, topic="x", codec=Raw()):
        data: bytes
        more: str

    told = [problems_of(contract, is_handled=True) for contract in (Odd, Strange, Two, Tick, Photo, Blob, Noted)]

    assert [text for (text,) in told[:3]] == [
        "whose key 'idd' is none of its fields. Did you mean 'id'?",
        "which is neither an Event nor a msgspec.Struct. Give it a codec that writes and reads it.",
        f"whose payload is {Raw()!r}. It needs one field, of the type bytes; it has data: bytes, more: str.",
    ]
    assert told[3:] == [[], [], [], []]


@pytest.mark.parametrize("cls", [Placed, Tick, Photo])
@pytest.mark.parametrize("data", [b'{"orderId": "1"}', b'{"symbol": "A", "price": 1}', b"{", b"\x89PNG"])
@pytest.mark.parametrize("type", ["placed", "ticks", "photos", "other", ""])
@pytest.mark.parametrize(
    "attributes",
    [{}, {"datacontenttype": "application/json"}, {"datacontenttype": "image/png"}, {"dataversion": "2"}],
)
def test_a_decoder_of_one_class_reads_as_any(
    cls: type[Any], data: bytes, type: str, attributes: dict[str, str]
) -> None:
    """What is made once for a class reads, and refuses, what `decode` does, in the same words."""
    message = Message("topic", data, id="1", type=type, attributes=attributes)
    results = []
    for read in (decoder_of(cls), lambda message: decode(cls, message)):
        try:
            results.append(repr(read(message)))
        except DecodeError as error:
            results.append(str(error))
    assert results[0] == results[1]
