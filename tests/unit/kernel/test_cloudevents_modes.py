"""Structured and batched CloudEvents: round trips, and bytes from outside that must never make reading fail."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.kernel import cloudevents
from torpor.kernel.cloudevents import structured
from torpor.kernel.errors import Rejected
from torpor.kernel.message import Message

FUZZED = 4_000
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in {"id", "type", "specversion", "partitionkey", "source", "data", "datacontenttype"}
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, st.lists, max_leaves=5).map(
    lambda value: json.dumps(value).encode()
)
PAYLOADS = st.one_of(
    st.tuples(st.sampled_from(["application/json", "text/json; charset=utf-8", "application/x+json"]), JSON),
    st.tuples(st.sampled_from(["text/plain", "application/xml", "image/svg+xml"]), TEXT.map(str.encode)),
    st.tuples(st.just("text/plain; charset=ISO-8859-1"), st.binary()),
    st.tuples(st.sampled_from([None, "application/avro", "text/plain", "text/x; charset=koi8-r"]), st.binary()),
    st.tuples(
        st.just("application/json"), st.binary().filter(lambda data: data == data.strip(b" \t\n\r"))
    ),  # whatever it really is
)
REQUIRED = {"id": "1", "source": "/s", "specversion": "1.0", "type": "t"}


@st.composite
def _messages(draw: st.DrawFn) -> Message:
    attributes = draw(st.dictionaries(NAMES, TEXT, max_size=5))
    attributes["source"] = draw(TEXT)
    content_type, data = draw(PAYLOADS)
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    key = draw(st.none() | st.text(st.characters(exclude_categories=["Cs"])))
    return Message("t", data, id=draw(TEXT), type=draw(TEXT), key=key, attributes=attributes)


def _read(data: bytes, content_type: str = structured.EVENT) -> list[tuple[Message, str | None]]:
    return cloudevents.decode_all({"content-type": content_type}, data, topic="t", position="p")


@given(message=_messages())
def test_structured_mode_gives_back_every_message(message: Message) -> None:
    """A message that is written as JSON and read again is the same, its data to the byte, whatever its type says."""
    written = structured.encode(message)

    assert json.loads(written)["specversion"] == "1.0"
    assert _read(written, "Application/CloudEvents+JSON; charset=UTF-8") == [(message, None)]


@given(messages=st.lists(_messages(), max_size=4))
def test_batched_mode_gives_back_every_message(messages: list[Message]) -> None:
    """A batch gives back its messages in order, and an empty one none."""
    assert _read(structured.encode_batch(messages), structured.BATCH) == [(message, None) for message in messages]


@pytest.mark.parametrize(
    ("content_type", "data", "member", "value"),
    [
        ("application/json", b' {"a": 1.10} ', "data", {"a": 1.1}),
        ("application/json", b"null", "data", None),
        ("application/problem+json", b"[1]", "data", [1]),
        ("application/json", b"{", "data_base64", "ew=="),
        ("application/json", b"NaN", "data_base64", "TmFO"),
        ("application/json; charset=iso-8859-1", b'"\xe9"', "data_base64", "Iuki"),
        ("text/plain", "é".encode(), "data", "é"),
        ("text/plain; charset=iso-8859-1", b"\xe9", "data", "é"),
        ("text/plain", b"\xff", "data_base64", "/w=="),
        ("application/xml", b"<a/>", "data", "<a/>"),
        ("application/avro", b"{}", "data_base64", "e30="),
        (None, b"{}", "data_base64", "e30="),
    ],
)
def test_data_is_written_as_what_it_is(content_type: str | None, data: bytes, member: str, value: Any) -> None:
    """JSON stands as JSON, text as a string, and all else, or what is not what it says, as base64."""
    attributes = {} if content_type is None else {"datacontenttype": content_type}
    event = json.loads(structured.encode(Message("t", data, id="1", type="t", attributes=attributes)))

    assert event[member] == value
    assert len({"data", "data_base64"} & event.keys()) == 1


def test_what_json_cannot_carry_is_refused() -> None:
    """A lone surrogate and a name with a space are refused, as they are for headers."""
    with pytest.raises(Rejected, match="not Unicode"):
        structured.encode(Message("t", b"", id="\ud800", type="t"))
    with pytest.raises(Rejected, match="is no header name"):
        structured.encode(Message("t", b"", id="1", type="t", attributes={"a b": "x"}))


def test_each_event_of_a_batch_has_its_own_fault() -> None:
    """One broken event does not take the others with it; it keeps its own bytes, and a position of its own."""
    good = json.dumps(REQUIRED)
    found = _read(f'[{good}, {{"id": 2}}, 3, {good}]'.encode(), structured.BATCH)

    assert [fault is None for _, fault in found] == [True, False, False, True]
    assert [(message.id, message.data) for message, _ in found[1:3]] == [("p/1", b'{"id": 2}'), ("p/2", b"3")]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{}", "Expecting '['"),
        (b"[", "is not a JSON array"),
        (b"[{},]", "is not a JSON array"),
        (b"[{}] x", "is not a JSON array"),
        (b"\xff", "is not a JSON object"),
        (b"[" * 100_000, "is not a JSON array"),
        (b"[" + b"1," * 10_000 + b"1]", "more than 10000 CloudEvents"),
    ],
)
def test_a_batch_that_is_none_is_one_fault(data: bytes, told: str) -> None:
    """What is no array, and one that is too long, comes back whole with one fault: nothing of it is taken."""
    ((message, fault),) = _read(data, structured.BATCH)

    assert fault is not None
    assert told in fault
    assert message.data == data


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"data": 1, "data_base64": "AA=="}, "Expected one of them"),
        ({"x y": "a"}, "A name is letters and digits"),
        ({"x": "\ud800"}, "half a surrogate pair"),
        ({"x": 1.5}, "attribute 'x' is 1.5"),
        ({"x": {}}, "attribute 'x' is {}"),
        ({"x": "a" * 70_000}, "too large"),
        ({f"x{n}": "a" for n in range(100)}, "too large"),
        ({"datacontenttype": "text/plain; charset=ascii", "data": "é"}, "is no text of"),
        ({"datacontenttype": "text/plain; charset=idna", "data": "a"}, "The charset of"),
        ({"datacontenttype": "text/plain", "data": [1]}, "is no text"),
    ],
)
def test_what_breaks_the_format_is_told(members: dict[str, Any], told: str) -> None:
    """A structured event that breaks a rule, or is larger than is read, is a fault."""
    ((_, fault),) = _read(json.dumps({**REQUIRED, **members}).encode())

    assert fault is not None
    assert told in fault


def test_an_attribute_that_is_there_twice_is_told() -> None:
    """Two members of one name, in whatever case, leave open which is meant."""
    ((_, fault),) = _read(b'{"id":"1","ID":"2","source":"s","specversion":"1.0","type":"t"}')

    assert fault == "The structured CloudEvent has 'ID' twice."


def test_too_many_headers_are_told() -> None:
    """The size of an envelope is limited in binary mode too."""
    many = {**{f"ce-{name}": value for name, value in REQUIRED.items()}, **{f"ce-x{n}": "a" for n in range(100)}}
    _, fault = cloudevents.decode(many, b"", topic="t", position="p")

    assert fault is not None
    assert "too large" in fault


def test_numbers_of_any_length_are_read() -> None:
    """A number is its text, so that none is too long for Python or loses a digit."""
    digits = "9" * 6_000
    ((message, fault),) = _read(json.dumps({**REQUIRED, "data": 0}).replace('"data": 0', f'"data": {digits}').encode())

    assert fault is None
    assert message.data == digits.encode()


def fuzz(rounds: int, seed: int) -> dict[str, int]:
    """Reads random bytes and broken events in every mode; returns how many were read and how many told."""
    chance = random.Random(seed)
    sound = [
        json.dumps({**REQUIRED, "data": {"a": [1, "é", None]}, "n": 1, "b": True}).encode(),
        json.dumps(
            [{**REQUIRED, "data_base64": "AAAA"}, {**REQUIRED, "datacontenttype": "text/plain", "data": "x"}]
        ).encode(),
    ]
    types = [
        structured.EVENT, structured.BATCH, "application/cloudevents", "application/cloudevents-batch", "text/plain",
        "application/cloudevents+avro", "APPLICATION/CLOUDEVENTS+JSON;charset=x", "", ";",
    ]  # fmt: skip
    styles = [cloudevents.HTTP, cloudevents.NATS, cloudevents.KAFKA]
    counts = {"read": 0, "told": 0}
    for _ in range(rounds):
        data = bytearray(chance.choice(sound) if chance.random() < 0.8 else chance.randbytes(chance.randrange(40)))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randrange(3)] = chance.choice(
                [chance.randbytes(2), b'"', b"\\ud800", b"}", b",", b"%"]
            )
        style = chance.choice(styles)
        headers = {"content-type": chance.choice(types)} if chance.random() < 0.9 else {}
        for name in REQUIRED:
            if chance.random() < 0.5:
                headers[style.prefix + name] = chance.choice(["1.0", "%", "%ff", '"\\', "é", "", "%E2%82%AC", "\udcff"])
        for message, fault in cloudevents.decode_all(headers, bytes(data), topic="t", position="p", style=style):
            assert isinstance(message.data, bytes)
            assert all(isinstance(text, str) for text in (message.id, message.type, *message.attributes.values()))
            assert message.id
            counts["read" if fault is None else "told"] += 1
    return counts


def test_random_bytes_never_make_reading_fail() -> None:
    """Whatever arrives, in whatever mode, is read or told; both happen."""
    counts = fuzz(FUZZED, seed=7)

    assert counts["read"] > FUZZED / 20
    assert counts["told"] > FUZZED / 20
