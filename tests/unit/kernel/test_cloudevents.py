"""The CloudEvents codec: round trips, foreign messages, and faults that keep the bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.kernel import cloudevents
from torpor.kernel.errors import Rejected
from torpor.kernel.message import Message

STYLES = [cloudevents.HTTP, cloudevents.NATS, cloudevents.KAFKA]
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in {"id", "type", "specversion", "partitionkey", "source", "datacontenttype"}
)
TEXT = st.text(min_size=1)
TOKEN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(
    lambda text: not text.startswith("application/cloudevents")
)
REQUIRED = {"ce-id": "1", "ce-source": "/shop", "ce-specversion": "1.0", "ce-type": "order"}


@st.composite
def _messages(draw: st.DrawFn) -> Message:
    attributes = draw(st.dictionaries(NAMES, TEXT, max_size=5))
    attributes["source"] = draw(TEXT)
    if draw(st.booleans()):
        attributes["datacontenttype"] = draw(TOKEN)
    key = draw(st.none() | st.text())
    return Message("t", draw(st.binary()), id=draw(TEXT), type=draw(TEXT), key=key, attributes=attributes)


def _decode(headers: dict[str, str] | None, data: bytes = b"{}") -> tuple[Message, str | None]:
    return cloudevents.decode(headers, data, topic="t", position="stream:7")


def _structured(event: dict[str, Any] | str | bytes) -> tuple[Message, str | None]:
    text = json.dumps(event) if isinstance(event, dict) else event
    data = text if isinstance(text, bytes) else text.encode()
    return _decode({"Content-Type": "application/cloudevents+json; charset=utf-8"}, data)


@given(message=_messages(), style=st.sampled_from(STYLES))
def test_binary_mode_gives_back_every_message(message: Message, style: cloudevents.HeaderStyle) -> None:
    """A message that is written to headers and read again is the same message, in each protocol's style."""
    headers = cloudevents.encode(message, style)

    read, fault = cloudevents.decode(headers, message.data, topic="t", position="elsewhere", style=style)

    assert fault is None
    assert read == message


@given(message=_messages(), style=st.sampled_from([cloudevents.HTTP, cloudevents.NATS]))
def test_escaped_headers_are_printable_ascii(message: Message, style: cloudevents.HeaderStyle) -> None:
    """Headers of HTTP and NATS hold only printable ASCII without spaces, so that none can end its line."""
    for name, value in cloudevents.encode(message, style).items():
        assert all("!" <= c <= "~" for c in name + value)


@given(headers=st.dictionaries(st.text(), st.text()), data=st.binary(), style=st.sampled_from(STYLES))
def test_nothing_makes_the_codec_fail(headers: dict[str, str], data: bytes, style: cloudevents.HeaderStyle) -> None:
    """Whatever arrives becomes a message with its bytes whole, with or without a fault."""
    message, _ = cloudevents.decode(headers, data, topic="t", position="stream:7", style=style)

    assert message.data == data


@given(data=st.binary())
def test_any_bytes_as_structured_become_a_message_or_a_fault(data: bytes) -> None:
    """Bytes that claim to be a structured CloudEvent and are not come back whole, with the fault told."""
    message, fault = _decode({"content-type": "application/cloudevents+json"}, data)

    assert fault is not None
    assert message.data == data


def test_the_specifications_example_is_escaped_as_it_says() -> None:
    """The euro sign, the face and the spaces are percent-encoded as the binding's example shows."""
    message = Message("t", b"", id="1", type="t", attributes={"subject": "Euro € 😀"})

    assert cloudevents.encode(message)["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80"


def test_each_protocol_names_the_content_type_as_its_binding_says() -> None:
    """`datacontenttype` is a header of its own on HTTP and Kafka, and an attribute like others on NATS."""
    message = Message("t", b"", id="1", type="t", attributes={"datacontenttype": "application/json"})

    assert cloudevents.encode(message, cloudevents.HTTP)["content-type"] == "application/json"
    assert cloudevents.encode(message, cloudevents.KAFKA)["content-type"] == "application/json"
    assert cloudevents.encode(message, cloudevents.NATS)["ce-datacontenttype"] == "application/json"


def test_what_the_envelope_requires_is_always_written() -> None:
    """A message without a type or a source still makes a valid CloudEvent."""
    headers = cloudevents.encode(Message("orders", b"", id="1", type=""))

    assert headers == {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "orders", "ce-source": "/torpor"}


@pytest.mark.parametrize("name", ["", "a b", "é", "a:b", "line\nbreak"])
def test_an_attribute_that_no_header_can_carry_is_refused(name: str) -> None:
    """An attribute name that would break the header block is refused, with the name told."""
    with pytest.raises(Rejected, match="is no header name"):
        cloudevents.encode(Message("t", b"", id="1", type="t", attributes={name: "x"}))


def test_text_that_is_not_unicode_is_refused() -> None:
    """A lone surrogate has no UTF-8, and is refused rather than altered."""
    with pytest.raises(Rejected, match="not Unicode"):
        cloudevents.encode(Message("t", b"", id="1", type="t", key="\ud800"))


def test_header_names_are_read_in_any_case() -> None:
    """A producer may write Ce-Id as well as ce-id."""
    message, fault = _decode({name.title(): value for name, value in REQUIRED.items()})

    assert fault is None
    assert (message.id, message.type, message.attributes) == ("1", "order", {"source": "/shop"})


@pytest.mark.parametrize(
    ("written", "read"),
    [('"a \\"b\\" \\\\c"', 'a "b" \\c'), ("100%", "100%"), ("%zz", "%zz"), ("%e2%82%ac", "€"), ('"', '"'), ("é", "é")],
)
def test_values_of_other_producers_are_read(written: str, read: str) -> None:
    """Quoted strings, lower-case escapes and values that were never escaped are understood."""
    message, fault = _decode({**REQUIRED, "ce-subject": written})

    assert fault is None
    assert message.attributes["subject"] == read


def test_trace_context_beside_the_envelope_is_taken() -> None:
    """A bare traceparent header becomes the attribute, unless the envelope has its own."""
    bare, _ = _decode({**REQUIRED, "traceparent": "00-a"})
    both, _ = _decode({**REQUIRED, "traceparent": "00-a", "ce-traceparent": "00-b"})

    assert bare.attributes["traceparent"] == "00-a"
    assert both.attributes["traceparent"] == "00-b"


@pytest.mark.parametrize("headers", [None, {}, {"content-type": "application/json", "Traceparent": "00-a"}])
def test_a_message_without_an_envelope_is_taken_by_its_position(headers: dict[str, str] | None) -> None:
    """A foreign message is no fault: its id is its position, its type is open, and its headers are kept."""
    message, fault = _decode(headers, b"\xff\x00")

    assert fault is None
    assert (message.topic, message.id, message.type, message.key) == ("t", "stream:7", "", None)
    assert message.data == b"\xff\x00"
    assert message.attributes == ({"datacontenttype": "application/json", "traceparent": "00-a"} if headers else {})


def test_credentials_in_headers_are_not_kept() -> None:
    """Authorization and cookies never become attributes, whether the message is foreign or at fault."""
    secrets = {"Authorization": "Bearer x", "cookie": "y"}
    foreign, _ = _decode(secrets)
    faulty, fault = _decode({**secrets, "ce-id": "1"})

    assert foreign.attributes == {}
    assert fault is not None
    assert faulty.attributes == {"ce-id": "1"}


@pytest.mark.parametrize("name", ["ce-id", "ce-source", "ce-specversion", "ce-type"])
def test_half_an_envelope_is_a_fault(name: str) -> None:
    """An envelope that lacks what CloudEvents requires, or has it empty, is a fault that names what is missing."""
    absent = {header: value for header, value in REQUIRED.items() if header != name}
    for headers in (absent, {**absent, name: ""}):
        message, fault = _decode(headers, b"bytes")

        assert fault is not None
        assert f"lacks {name[3:]}." in fault
        assert (message.id, message.type, message.data, message.attributes) == ("stream:7", "", b"bytes", headers)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({**REQUIRED, "ce-specversion": "0.3"}, "specversion '0.3'"),
        ({**REQUIRED, "ce-subject": "%C0%A0"}, "not as UTF-8"),
        ({"content-type": "application/cloudevents-batch+json"}, "one event a message"),
        ({"content-type": "application/cloudevents+avro"}, "is not read"),
    ],
)
def test_an_unreadable_envelope_is_a_fault_with_everything_kept(headers: dict[str, str], told: str) -> None:
    """A wrong version, a broken escape and an unknown format are told, with raw headers and bytes kept."""
    message, fault = _decode(headers, b"bytes")

    assert fault is not None
    assert told in fault
    assert (message.data, message.attributes) == (b"bytes", headers)


def test_structured_mode_reads_attributes_and_json_data() -> None:
    """A structured event becomes the same message as its binary twin; scalars become canonical text."""
    message, fault = _structured(
        {
            "id": "1",
            "source": "/shop",
            "specversion": "1.0",
            "type": "order",
            "partitionkey": "k",
            "count": 3,
            "urgent": True,
            "subject": None,
            "data": {"a": 1},
        }
    )

    assert fault is None
    assert (message.id, message.type, message.key) == ("1", "order", "k")
    assert json.loads(message.data) == {"a": 1}
    assert message.attributes == {
        "source": "/shop",
        "count": "3",
        "urgent": "true",
        "datacontenttype": "application/json",
    }


@given(value=st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5))
def test_structured_data_keeps_its_text(value: Any) -> None:
    """The JSON text of `data` is kept to the byte, so that no number loses a digit."""
    text = json.dumps([value]).replace("[", "[ 1.10000000000000000001, 1e400,", 1)
    envelope = '{"id":"1","source":"/s","specversion":"1.0","type":"t"'

    message, fault = _structured(f' {envelope} , "data" : {text} }} ')

    assert fault is None
    assert message.data.decode() == text


@given(data=st.binary())
def test_structured_base64_data_gives_back_the_bytes(data: bytes) -> None:
    """`data_base64` is decoded, and nothing is assumed about its content type."""
    encoded = base64.b64encode(data).decode()
    message, fault = _structured({"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "data_base64": encoded})

    assert fault is None
    assert message.data == data
    assert message.attributes == {"source": "/s"}


def test_structured_text_data_is_its_text() -> None:
    """Data of a content type that is not JSON is the string itself, and absent data is no bytes."""
    event = {"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "datacontenttype": "text/plain"}

    assert _structured({**event, "data": "é"})[0].data == "é".encode()
    assert _structured(event)[0].data == b""


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"\xff",
        "[]",
        "{} {}",
        '{"id"}',
        '{"id":"1",}',
        '{"a":1 "b":2}',
        "[" * 100_000,
        {"id": "1"},
        {"id": ["1"], "source": "/s", "specversion": "1.0", "type": "t"},
        {"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "data_base64": "*"},
        {"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "data_base64": 1},
        {"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "datacontenttype": "text/plain", "data": 1},
    ],
)
def test_a_broken_structured_event_is_a_fault_with_its_bytes(event: Any) -> None:
    """Whatever is wrong with a structured event, its bytes and its headers are kept."""
    message, fault = _structured(event)

    assert fault is not None
    assert message.id == "stream:7"
    assert message.data == (json.dumps(event).encode() if isinstance(event, dict) else _bytes(event))
    assert "Content-Type" in message.attributes


def _bytes(event: str | bytes) -> bytes:
    return event if isinstance(event, bytes) else event.encode()
