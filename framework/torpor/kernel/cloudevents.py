"""CloudEvents 1.0: a message as headers and bytes (binary mode), and back (binary and structured mode).

A protocol's binding of CloudEvents is a `HeaderStyle`: `HTTP`, `NATS` or `KAFKA`. A message without any envelope is
taken as it is, under the id that its position gives it; one with a broken envelope comes with the fault told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import DecodeError, Rejected
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPECVERSION = "1.0"
STRUCTURED = "application/cloudevents"

_FIELDS = frozenset({"id", "type", "specversion", "partitionkey"})
_TRACE = ("traceparent", "tracestate")
_SECRET = frozenset({"authorization", "proxy-authorization", "cookie"})
_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_HEX = frozenset("0123456789abcdefABCDEF")
_DEFAULT_SOURCE = "/torpor"


class HeaderStyle:
    """How a protocol's binding writes the envelope into headers."""

    __slots__ = ("content_type", "is_escaped", "prefix")

    def __init__(self, prefix: str, *, content_type: str, is_escaped: bool = True) -> None:
        self.prefix = prefix
        self.content_type = content_type  # the header that carries `datacontenttype`
        self.is_escaped = is_escaped  # values are percent-encoded printable ASCII


HTTP = HeaderStyle("ce-", content_type="content-type")
NATS = HeaderStyle("ce-", content_type="ce-datacontenttype")
KAFKA = HeaderStyle("ce_", content_type="content-type", is_escaped=False)


def encode(message: Message, style: HeaderStyle = HTTP) -> dict[str, str]:
    """The headers of a message in binary mode; its body is `message.data`. Raises Rejected for an attribute that no
    header can carry."""
    prefix = style.prefix
    escape = _escape if style.is_escaped else _as_it_is
    headers = {
        f"{prefix}specversion": SPECVERSION,
        f"{prefix}id": escape(message.id),
        f"{prefix}type": escape(message.type or message.topic),
        f"{prefix}source": _DEFAULT_SOURCE,
    }
    if message.key is not None:
        headers[f"{prefix}partitionkey"] = escape(message.key)
    for name, value in message.attributes.items():
        if name == "datacontenttype":
            headers[style.content_type] = escape(value) if style.content_type.startswith(prefix) else value
        elif name not in _FIELDS:
            headers[prefix + _checked(name, message)] = escape(value)
    return headers


def decode(
    headers: Mapping[str, str] | None, data: bytes, *, topic: str, position: str, style: HeaderStyle = HTTP
) -> tuple[Message, str | None]:
    """The message in headers and bytes, and why it cannot be read, or None.

    `position` is a stable name of the place where the message lies; it is the id of a message that has none. With a
    fault, the message holds the bytes and the headers as they came.
    """
    try:
        return _read(headers or {}, data, topic=topic, position=position, style=style), None
    except DecodeError as fault:
        return Message(topic, data, id=position, type="", attributes=_raw(headers or {})), str(fault)


def _read(headers: Mapping[str, str], data: bytes, *, topic: str, position: str, style: HeaderStyle) -> Message:
    prefix = style.prefix
    skip = len(prefix)
    unescape = _unescape if style.is_escaped else _as_it_is
    envelope: dict[str, str] = {}
    others: dict[str, str] = {}
    for header, value in headers.items():
        name = header.lower()
        if name.startswith(prefix):
            envelope[name[skip:]] = unescape(value) if "%" in value or value[:1] == '"' else value
        else:
            others[name] = value
    content_type = others.get("content-type")
    if content_type is not None and content_type.lower().startswith(STRUCTURED):
        envelope, data = _open_structured(content_type.lower(), data)
    elif not envelope:
        return _foreign(others, data, topic=topic, position=position)
    elif content_type is not None:
        envelope.setdefault("datacontenttype", content_type)
    for name in _TRACE:
        if name in others:
            envelope.setdefault(name, others[name])
    return _assemble(envelope, data, topic)


def _assemble(envelope: dict[str, str], data: bytes, topic: str) -> Message:
    id, type, version = envelope.pop("id", ""), envelope.pop("type", ""), envelope.pop("specversion", "")
    source = envelope.get("source", "")
    if not (id and type and version and source):
        required = {"id": id, "source": source, "specversion": version, "type": type}
        raise DecodeError(
            f"The CloudEvents envelope lacks {', '.join(name for name, value in required.items() if not value)}. "
            f"It needs {', '.join(required)}, or none at all."
        )
    if version != SPECVERSION:
        raise DecodeError(f"The CloudEvents envelope has specversion {version!r}; only {SPECVERSION!r} is read.")
    return Message(topic, data, id=id, type=type, key=envelope.pop("partitionkey", None), attributes=envelope)


def _foreign(headers: dict[str, str], data: bytes, *, topic: str, position: str) -> Message:
    attributes = {name: value for name, value in headers.items() if name not in _SECRET}
    if "content-type" in attributes:
        attributes["datacontenttype"] = attributes.pop("content-type")
    return Message(topic, data, id=position, type="", attributes=attributes)


def _raw(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET}


def _open_structured(content_type: str, data: bytes) -> tuple[dict[str, str], bytes]:
    """The envelope and the body inside a JSON CloudEvent. The text of `data` is kept as it was written."""
    media = content_type.partition(";")[0].strip()
    if media not in {STRUCTURED, f"{STRUCTURED}+json"}:
        raise DecodeError(f"Content type {media!r} is not read; expected {STRUCTURED}+json, one event a message.")
    try:
        members = dict(_members(data.decode()))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"The structured CloudEvent is not a JSON object: {error}.") from error
    raw = members.pop("data", None)
    encoded, _ = members.pop("data_base64", (None, ""))
    envelope = {name: _text(name, value) for name, (value, _) in members.items() if value is not None}
    if encoded is not None:
        return envelope, _decoded(encoded)
    if raw is None:
        return envelope, b""
    value, text = raw
    declared = envelope.setdefault("datacontenttype", "application/json").partition(";")[0].strip().lower()
    if declared.endswith(("/json", "+json")):
        return envelope, text.encode()
    if not isinstance(value, str):
        raise DecodeError(f"The structured CloudEvent's data is no text, and its datacontenttype is {declared!r}.")
    return envelope, value.encode()


def _members(text: str) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Each member of a JSON object, as its value and as its text. Raises ValueError."""
    from json import JSONDecodeError, JSONDecoder

    scan = JSONDecoder().raw_decode
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise JSONDecodeError("Expecting '{'", text, at)
    separator = "{"
    while text[at : at + 1] == separator:
        at = _skip(text, at + 1)
        if separator == "{" and text[at : at + 1] == "}":
            break
        name, at = scan(text, at)
        at = _skip(text, at)
        if not isinstance(name, str) or text[at : at + 1] != ":":
            raise JSONDecodeError("Expecting a name and ':'", text, at)
        start = _skip(text, at + 1)
        value, at = scan(text, start)
        yield name, (value, text[start:at])
        at, separator = _skip(text, at), ","
    if text[at : at + 1] != "}" or _skip(text, at + 1) != len(text):
        raise JSONDecodeError("Expecting ',' or the end", text, at)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in {" ", "\t", "\n", "\r"}:
        at += 1
    return at


def _text(name: str, value: Any) -> str:
    """A JSON attribute in the canonical text of the CloudEvents type system."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise DecodeError(
        f"CloudEvents attribute {name!r} is a {type(value).__name__}; expected text, an integer or a boolean."
    )


def _decoded(encoded: Any) -> bytes:
    from base64 import b64decode

    try:
        return b64decode(encoded, validate=True)
    except (TypeError, ValueError) as error:
        raise DecodeError(f"The structured CloudEvent's data_base64 is not base64: {error}.") from error


def _checked(name: str, message: Message) -> str:
    lowered = name.lower()
    if lowered and _NAME.issuperset(lowered):
        return lowered
    raise Rejected(
        f"Attribute {name!r} of message {message.id} on {message.topic!r} is no header name. "
        "Expected letters and digits; rename it."
    )


def _as_it_is(value: str) -> str:
    return value


def _escape(value: str) -> str:
    if value.isascii() and value.isprintable() and " " not in value and '"' not in value and "%" not in value:
        return value
    try:
        return "".join(
            c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{byte:02X}" for byte in c.encode()) for c in value
        )
    except UnicodeEncodeError as error:
        raise Rejected(f"An attribute holds text that is not Unicode ({error.reason}), and no header can.") from error


def _unescape(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _unquoted(value[1:-1])
    if "%" not in value:
        return value
    head, *parts = value.split("%")
    try:
        octets = bytearray(head.encode())
        for part in parts:
            code = part[:2]
            if len(code) == 2 and _HEX.issuperset(code):
                octets.append(int(code, 16))
                octets += part[2:].encode()
            else:
                octets += f"%{part}".encode()
        return octets.decode()
    except UnicodeError as error:
        raise DecodeError(f"Header value {value!r} is percent-encoded, but not as UTF-8.") from error


def _unquoted(value: str) -> str:
    """A quoted string's text: a backslash stands for the character after it."""
    characters = iter(value)
    return "".join(next(characters, "") if c == "\\" else c for c in characters)
