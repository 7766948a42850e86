"""The conformance cases of CloudEvents 1.0 for HTTP, Kafka, NATS and the JSON format, said in our own words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from torpor.kernel import cloudevents
from torpor.kernel.cloudevents import structured

if TYPE_CHECKING:
    from torpor.kernel.message import Message

HTTP, NATS, KAFKA = cloudevents.HTTP, cloudevents.NATS, cloudevents.KAFKA
WELCOME = {"text": "Welcome!"}
EVENT = {
    "specversion": "1.0",
    "type": "org.example.greeted",
    "time": "2026-02-03T04:05:06Z",
    "id": "g-17",
    "source": "/greeter/a",
}


class Case(NamedTuple):
    """Headers and a body, and what they say, or a part of the fault."""

    name: str
    headers: dict[str, str]
    body: bytes
    attributes: dict[str, str] | str
    data: bytes = json.dumps(WELCOME).encode()
    style: cloudevents.HeaderStyle = HTTP


def _binary(style: cloudevents.HeaderStyle, **changed: str | None) -> dict[str, str]:
    return {f"{style.prefix}{name}": value for name, value in {**EVENT, **changed}.items() if value is not None}


def _structured(**changed: Any) -> bytes:
    return json.dumps({name: value for name, value in {**EVENT, **changed}.items() if value != "absent"}).encode()


BODY = json.dumps(WELCOME).encode()
JSON_TYPE = {"datacontenttype": "application/json"}
CASES = [
    # Binary mode: attributes are headers, the content type is datacontenttype, the body is the data.
    Case("HTTP binary", {**_binary(HTTP), "Content-Type": "application/json"}, BODY, {**EVENT, **JSON_TYPE}),
    Case(
        "HTTP binary, with a charset",
        {**_binary(HTTP), "Content-Type": "application/json; charset=utf-8"},
        BODY,
        {**EVENT, "datacontenttype": "application/json; charset=utf-8"},
    ),
    Case("HTTP binary, header names in capitals", {k.upper(): v for k, v in _binary(HTTP).items()}, BODY, EVENT),
    Case("HTTP binary without data", _binary(HTTP), b"", EVENT, b""),
    Case("HTTP binary with an extension", _binary(HTTP, myext="5"), BODY, {**EVENT, "myext": "5"}),
    Case(
        "HTTP binary, of two content types the header's counts",
        {**_binary(HTTP, datacontenttype="text/plain"), "content-type": "application/json"},
        BODY,
        {**EVENT, **JSON_TYPE},
    ),
    Case(
        "Kafka binary",
        {**_binary(KAFKA), "content-type": "application/json"},
        BODY,
        {**EVENT, **JSON_TYPE},
        BODY,
        KAFKA,
    ),
    Case(
        "Kafka values are not escaped",
        _binary(KAFKA, subject="50%25 é"),
        BODY,
        {**EVENT, "subject": "50%25 é"},
        BODY,
        KAFKA,
    ),
    Case(
        "NATS binary",
        _binary(NATS, datacontenttype="application/json"),
        BODY,
        {**EVENT, **JSON_TYPE},
        BODY,
        NATS,
    ),
    Case("NATS values are escaped", _binary(NATS, subject="50%25"), BODY, {**EVENT, "subject": "50%"}, BODY, NATS),
    Case("unnecessary escapes are undone", _binary(HTTP, subject="%41%62c"), BODY, {**EVENT, "subject": "Abc"}),
    Case("lower-case escapes are undone", _binary(HTTP, subject="%e2%82%ac"), BODY, {**EVENT, "subject": "€"}),
    Case("one round of unescaping", _binary(HTTP, subject="%2525"), BODY, {**EVENT, "subject": "%25"}),
    Case("a quoted value", _binary(HTTP, subject='"a \\"b\\""'), BODY, {**EVENT, "subject": 'a "b"'}),
    Case("overlong UTF-8 is refused", _binary(HTTP, subject="%C0%A0"), BODY, "not as UTF-8"),
    *[
        Case(f"binary without {name}", _binary(HTTP, **{name: None}), BODY, f"lacks {name}")
        for name in ("id", "source", "specversion", "type")
    ],
    Case("an older version", _binary(HTTP, specversion="0.3"), BODY, "only '1.0' is read"),
    # Structured mode: the content type tells it, whatever its case and parameters.
    *[
        Case(
            f"structured by {style.prefix} as {content_type}",
            {"content-type": content_type},
            _structured(datacontenttype="application/json", data=WELCOME),
            {**EVENT, **JSON_TYPE},
            BODY,
            style,
        )
        for style in (HTTP, KAFKA, NATS)
        for content_type in (
            "application/cloudevents+json",
            "application/cloudevents+json; charset=utf-8",
            "Application/CloudEvents+JSON",
        )
    ],
    Case(
        "structured, the payload's attributes count",
        {**_binary(HTTP, id="other"), "content-type": structured.EVENT},
        _structured(data=WELCOME),
        {**EVENT, **JSON_TYPE},
    ),
    Case("a format that nobody knows", {"content-type": "application/cloudevents+avro"}, b"", "is not read"),
]
# The JSON format: members, and what they become.
FORMAT = [
    ("data without a content type is JSON", {"data": {"a": 1}}, JSON_TYPE, b'{"a": 1}'),
    ("a JSON string is a JSON text", {"data": "just text"}, JSON_TYPE, b'"just text"'),
    ("a JSON string is not parsed again", {"data": '{"a":1}'}, JSON_TYPE, b'"{\\"a\\":1}"'),
    ("a number", {"data": 1.5, **JSON_TYPE}, JSON_TYPE, b"1.5"),
    ("an explicit null", {"data": None, **JSON_TYPE}, JSON_TYPE, b"null"),
    ("no data", {}, {}, b""),
    (
        "XML is a string",
        {"datacontenttype": "application/xml", "data": "<a b='c'/>"},
        {"datacontenttype": "application/xml"},
        b"<a b='c'/>",
    ),
    (
        "+json is JSON",
        {"datacontenttype": "application/geo+json", "data": []},
        {"datacontenttype": "application/geo+json"},
        b"[]",
    ),
    ("base64 says nothing of a content type", {"data_base64": "eyAieHl6IjogMTIzIH0="}, {}, b'{ "xyz": 123 }'),
    (
        "base64 with one",
        {"datacontenttype": "application/thrift", "data_base64": "AP8="},
        {"datacontenttype": "application/thrift"},
        b"\0\xff",
    ),
    ("null is unset", {"subject": None, "time": None, "other": None}, {"time": None}, b""),
    ("a boolean", {"urgent": False}, {"urgent": "false"}, b""),
    ("an integer", {"count": -2147483648}, {"count": "-2147483648"}, b""),
    (
        "binary, a timestamp, URIs and a URI reference are their texts",
        {
            "blob": "AAEC",
            "expiry": "2026-01-01T00:00:00+01:00",
            "dataschema": "https://example.com/s",
            "link": "../up",
        },
        {"blob": "AAEC", "expiry": "2026-01-01T00:00:00+01:00", "dataschema": "https://example.com/s", "link": "../up"},
        b"",
    ),
    (
        "known extensions",
        {
            "sequence": "007",
            "traceparent": "00-1-2-01",
            "tracestate": "a=b",
            "correlationid": "c",
            "causationid": "d",
        },
        {"sequence": "007", "traceparent": "00-1-2-01", "tracestate": "a=b", "correlationid": "c", "causationid": "d"},
        b"",
    ),
    ("unknown extensions", {"comexampleextension1": "value"}, {"comexampleextension1": "value"}, b""),
]


def _whole(message: Message) -> dict[str, str]:
    key = {} if message.key is None else {"partitionkey": message.key}
    return {**message.attributes, **key, "id": message.id, "type": message.type, "specversion": "1.0"}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_case_of_the_bindings(case: Case) -> None:
    """A message of a protocol's binding says what the specification says, or is told as broken with its bytes."""
    message, fault = cloudevents.decode(case.headers, case.body, topic="t", position="p", style=case.style)

    if isinstance(case.attributes, str):
        assert fault is not None
        assert case.attributes in fault
        assert message.data == case.body
    else:
        assert fault is None
        assert _whole(message) == case.attributes
        assert message.data == case.data


@pytest.mark.parametrize(("members", "expected", "data"), [row[1:] for row in FORMAT], ids=[row[0] for row in FORMAT])
def test_a_case_of_the_json_format(members: dict[str, Any], expected: dict[str, Any], data: bytes) -> None:
    """A member of the JSON format becomes the attribute or the data that the specification says."""
    headers = {"content-type": structured.EVENT}
    message, fault = cloudevents.decode(headers, _structured(**members), topic="t", position="p")

    assert fault is None
    assert _whole(message) == {name: value for name, value in {**EVENT, **expected}.items() if value is not None}
    assert message.data == data


def test_an_event_is_the_same_in_every_mode() -> None:
    """What was read from the JSON format and is written in binary mode has the implied content type, and no more."""
    headers = {"content-type": structured.EVENT}
    message, _ = cloudevents.decode(headers, _structured(data="just text", partitionkey="k"), topic="t", position="p")

    assert cloudevents.encode(message, HTTP) == {
        **{f"ce-{name}": value for name, value in EVENT.items()},
        "ce-partitionkey": "k",
        "content-type": "application/json",
    }
    assert message.data == b'"just text"'
    assert message.key == "k"
