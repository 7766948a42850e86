"""Versions of a contract: what an older message becomes, and what is parked."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import Event, Raw, event
from torpor.contract.checks import problems_of
from torpor.contract.codec import decode, encode
from torpor.kernel.errors import DecodeError
from torpor.kernel.message import Message


def _with_currency(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew euros alone."""
    return {**old, "currency": "EUR"}


def _in_cents(old: dict[str, Any]) -> dict[str, Any]:
    """Version 2 counted in whole units."""
    return {"id": old["id"], "currency": old["currency"], "cents": old["total"] * 100}


class Placed(Event, topic="placed", key="id", version=3, upcasts={1: _with_currency, 2: _in_cents}):
    id: str
    cents: int
    currency: str


@event(topic="ticks", version=2, upcasts={1: lambda old: {**old, "venue": "X"}})
class Tick(msgspec.Struct):
    price: float
    venue: str


def _message(data: Any, version: str | None = None) -> Message:
    attributes = {} if version is None else {"dataversion": version}
    payload = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Message("placed", payload, id="1", type="placed", attributes=attributes)


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (None, {"id": "a", "total": 2}),
        ("1", {"id": "a", "total": 2}),
        ("2", {"id": "a", "total": 2, "currency": "EUR"}),
        ("3", {"id": "a", "cents": 200, "currency": "EUR"}),
    ],
)
def test_an_older_version_is_led_to_the_present_one(version: str | None, data: dict[str, Any]) -> None:
    """Upcasts are applied one after the other, from the version that was written; none said is version 1."""
    assert decode(Placed, _message(data, version)) == Placed(id="a", cents=200, currency="EUR")


def test_a_struct_is_led_on_too() -> None:
    """Upcasts work on dicts, whatever class the contract is."""
    assert decode(Tick, Message("ticks", b'{"price":1}', id="1", type="ticks")) == Tick(1.0, "X")


@given(cents=st.integers(), id=st.text(), currency=st.text())
def test_what_is_written_now_is_read_without_upcasts(cents: int, id: str, currency: str) -> None:
    """The present version is written as such, and read as it is."""
    placed = Placed(id=id, cents=cents, currency=currency)
    message = encode(placed, id="1", key=None, attributes={})

    assert message.attributes["dataversion"] == "3"
    assert message.type == "placed"
    assert decode(Placed, message) == placed


@pytest.mark.parametrize(
    ("data", "version", "told"),
    [
        ({"id": "a"}, "4", "carries version 4 of Placed, and this code knows version 3. Deploy"),
        ({"id": "a"}, "0", "carries the dataversion '0'. Expected a number"),
        ({"id": "a"}, "-1", "carries the dataversion '-1'. Expected a number"),
        ({"id": "a"}, "1.5", "carries the dataversion '1.5'. Expected a number"),
        ({"id": "a"}, "²", "carries the dataversion '²'. Expected a number"),
        ({"id": "a"}, "9" * 5000, "carries the dataversion '9"),
        ({"id": "a", "total": 1}, "2", "the upcast from version 2 failed with KeyError: 'currency'"),
        ({"id": "a", "total": None}, "1", "the upcast from version 2 failed with TypeError"),
        ({"total": 1, "id": 5}, "1", "id: Input should be a valid string"),
        ([1], "1", "an older version must be a JSON object, and this is a list"),
        (b"{", "1", "the payload is not JSON"),
        (b"\xff", "2", "the payload is not JSON"),
        (b"[" * 100_000, "2", "the payload is not JSON"),
    ],
)
def test_a_version_that_cannot_be_read_is_parked_with_the_reason(data: Any, version: str, told: str) -> None:
    """A newer version, no version at all, and a payload that an upcast cannot take raise DecodeError."""
    with pytest.raises(DecodeError) as error:
        decode(Placed, _message(data, version))

    assert told in str(error.value)


def test_the_first_version_refuses_a_newer_one() -> None:
    """Code that never heard of versions does not take a later payload for its own."""

    class Old(Event, topic="placed"):
        id: str

    assert decode(Old, _message({"id": "a"}, "1")) == Old(id="a")
    with pytest.raises(DecodeError, match="carries version 2 of Old, and this code knows version 1"):
        decode(Old, _message({"id": "a"}, "2"))


@pytest.mark.parametrize(("result", "told"), [(None, "returned a NoneType"), ({"x": Decimal(1)}, "what JSON cannot")])
def test_an_upcast_returns_a_payload(result: Any, told: str) -> None:
    """What is no dict, or holds what JSON cannot, is told."""

    class New(Event, topic="placed", version=2, upcasts={1: lambda _: result}):
        pass

    with pytest.raises(DecodeError, match=told):
        decode(New, _message({}))


def test_what_no_upcast_leads_from_is_parked() -> None:
    """A version before the oldest upcast is told with what would read it."""

    class New(Event, topic="placed", version=3, upcasts={2: dict}):
        pass

    assert problems_of(New, is_handled=True) == []
    with pytest.raises(DecodeError, match="nothing leads from version 1 to 2"):
        decode(New, _message({}, "1"))


@pytest.mark.parametrize(
    ("version", "upcasts", "told"),
    [
        (1, {}, []),
        (2, {1: dict}, []),
        (4, {2: dict, 3: dict}, []),
        (2, {}, ["no upcast from version 1"]),
        (3, {}, ["no upcast from version 2"]),
        (4, {1: dict, 3: dict}, ["no upcast from version 2"]),
        (5, {1: dict}, ["no upcast from version 2", "no upcast from version 3", "no upcast from version 4"]),
        (2, {1: dict, 2: dict}, ["an upcast from version 2, and is version 2"]),
        (1, {0: dict}, ["an upcast from version 0"]),
        (0, {}, ["whose version is 0"]),
        ("2", {}, ["whose version is '2'"]),
    ],
)
def test_gaps_between_upcasts_are_told(version: Any, upcasts: Any, told: list[str]) -> None:
    """A handled contract has an upcast from the version before it, and none is left out down to the oldest."""

    class Odd(Event, topic="x", version=version, upcasts=upcasts):
        pass

    problems = problems_of(Odd, is_handled=True)

    assert len(problems) == len(told)
    assert all(part in problem for part, problem in zip(told, problems, strict=True))


def test_who_only_publishes_needs_no_upcast() -> None:
    """Upcasts are for reading."""

    class New(Event, topic="x", version=2):
        pass

    assert problems_of(New, is_handled=False) == []


def test_upcasts_are_for_json() -> None:
    """Bytes have no dict to be led on."""

    class Bytes(Event, topic="x", version=2, upcasts={1: dict}, codec=Raw()):
        data: bytes

    assert problems_of(Bytes, is_handled=True) == [
        "which has upcasts, and is not JSON. Let its codec read what is older."
    ]
