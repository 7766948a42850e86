"""The JSON format: an event as one JSON object (structured mode), or several as an array (batched mode).

Data that is JSON stands in it as it is, to the byte; other text as a string; all else, and what is not what its content
type says, as base64.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from torpor.kernel.cloudevents.envelope import DEFAULT_SOURCE, OWN_FIELDS, SPECVERSION, checked, is_name
from torpor.kernel.errors import DecodeError, Rejected
from torpor.kernel.media import charset_of, is_json, media_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torpor.kernel.message import Message

EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MOST_EVENTS = 10_000

_SPACE = " \t\n\r"
_BARE = {"application/cloudevents", "application/cloudevents-batch"}  # a format unsaid is JSON
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1"}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


# A number becomes its text, so that none is too long.
_scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse).raw_decode


def encode(message: Message) -> bytes:
    """A message as a JSON object, whose content type is `EVENT`. Raises Rejected for what JSON cannot carry."""
    envelope = {
        "specversion": SPECVERSION,
        "id": message.id,
        "type": message.type or message.topic,
        "source": DEFAULT_SOURCE,
    }
    if message.key is not None:
        envelope["partitionkey"] = message.key
    for name, value in message.attributes.items():
        if name not in OWN_FIELDS:
            envelope[checked(name, message)] = value
    written = json.dumps(envelope, ensure_ascii=False)
    try:
        head = written.encode()
    except UnicodeEncodeError as error:
        raise Rejected(f"An attribute of {message!r} is not Unicode ({error.reason}), and cannot be JSON.") from error
    return head[:-1] + _data_member(message) + b"}"


def encode_batch(messages: Sequence[Message]) -> bytes:
    """Messages as a JSON array, whose content type is `BATCH`. Raises Rejected for what JSON cannot carry."""
    return b"[" + b",".join(encode(message) for message in messages) + b"]"


def read(content_type: str, data: bytes) -> tuple[dict[str, str], bytes]:
    """The envelope and the body of an event in the JSON format. Raises DecodeError."""
    members = _members(_text_of(content_type, data, EVENT))
    _, raw = members.pop("data", (None, None))
    encoded, _ = members.pop("data_base64", (None, None))
    envelope = {name: _canonical(name, value, text) for name, (value, text) in members.items() if value is not None}
    if encoded is not None:
        if raw is not None and raw != "null":
            raise DecodeError("The structured CloudEvent has data and data_base64. Expected one of them.")
        return envelope, _decoded(encoded)
    if raw is None:
        return envelope, b""
    return envelope, _body(raw, envelope.setdefault("datacontenttype", "application/json"))


def split(content_type: str, data: bytes) -> list[bytes]:
    """The events of a batch, each as its JSON text. Raises DecodeError."""
    parts: list[bytes] = []
    try:
        for text in _array(_text_of(content_type, data, BATCH)):
            if len(parts) == MOST_EVENTS:
                raise DecodeError(f"The batch has more than {MOST_EVENTS} CloudEvents. Send them in smaller ones.")
            parts.append(text.encode())
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"The batch of CloudEvents is not a JSON array: {error}.") from error
    return parts


def _data_member(message: Message) -> bytes:
    """The member that holds the data, with the comma before it; nothing when there is none."""
    data = message.data
    content_type = message.attributes.get("datacontenttype")
    if not data:
        return b""
    charset = None if content_type is None else _CHARSETS.get(charset_of(content_type))
    if content_type is not None and charset is not None:
        if is_json(content_type):
            if charset != "latin-1" and _is_json_text(data):
                return b', "data": ' + data.strip(_SPACE.encode())
        elif _is_text(content_type):
            try:
                return b', "data": ' + json.dumps(data.decode(charset)).encode()
            except UnicodeDecodeError:
                pass
    return b', "data_base64": "' + b64encode(data) + b'"'


def _body(raw: str, content_type: str) -> bytes:
    """The bytes of a `data` member, whose JSON text is given."""
    if is_json(content_type):
        return raw.encode()
    if raw == "null":
        return b""
    if raw[0] != '"':
        raise DecodeError(
            f"The structured CloudEvent's data is no text, and its datacontenttype is {content_type[:80]!r}."
        )
    charset = _CHARSETS.get(charset_of(content_type))
    try:
        if charset is not None:
            body: bytes = json.loads(raw).encode(charset)
            return body
    except UnicodeEncodeError as error:
        raise DecodeError(f"The structured CloudEvent's data is no text of {content_type[:80]!r}.") from error
    raise DecodeError(f"The charset of {content_type[:80]!r} is not read. Expected UTF-8, or data_base64.")


def _text_of(content_type: str, data: bytes, expected: str) -> str:
    media = media_of(content_type)
    if media != expected and (media not in _BARE or not expected.startswith(media)):
        one = ", one event a message" if expected == EVENT else ""
        raise DecodeError(f"Content type {media[:80]!r} is not read; expected {expected}{one}.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"The structured CloudEvent is not a JSON object: {error}.") from error


def _members(text: str) -> dict[str, tuple[Any, str]]:
    """The members of a JSON object by their names in lower case, each as its value and as its text."""
    found: dict[str, tuple[Any, str]] = {}
    try:
        for name, value, raw in _object(text):
            lowered = name.lower()
            if lowered in found:
                raise DecodeError(f"The structured CloudEvent has {name[:80]!r} twice.")
            if not is_name(lowered):
                raise DecodeError(f"The structured CloudEvent has {name[:80]!r}. A name is letters and digits.")
            found[lowered] = value, raw
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"The structured CloudEvent is not a JSON object: {error}.") from error
    return found


def _object(text: str) -> Iterator[tuple[str, Any, str]]:
    """The members of a JSON object: name, value, and the value's text; a number is its text. Raises ValueError."""
    at = _opened(text, "{")
    is_more = text[at : at + 1] != "}"
    while is_more:
        name, at = _scan(text, at)
        at = _skip(text, at)
        if not isinstance(name, str) or text[at : at + 1] != ":":
            raise json.JSONDecodeError("Expecting a name and ':'", text, at)
        start = _skip(text, at + 1)
        value, end = _scan(text, start)
        yield name, value, text[start:end]
        at, is_more = _next(text, end)
    _close(text, at, "}")


def _array(text: str) -> Iterator[str]:
    """The texts of a JSON array's elements. Raises ValueError."""
    at = _opened(text, "[")
    is_more = text[at : at + 1] != "]"
    while is_more:
        _, end = _scan(text, at)
        yield text[at:end]
        at, is_more = _next(text, end)
    _close(text, at, "]")


def _opened(text: str, opening: str) -> int:
    at = _skip(text, 0)
    if text[at : at + 1] != opening:
        raise json.JSONDecodeError(f"Expecting {opening!r}", text, at)
    return _skip(text, at + 1)


def _next(text: str, end: int) -> tuple[int, bool]:
    """Where the next item begins, and whether there is one."""
    at = _skip(text, end)
    is_more = text[at : at + 1] == ","
    return (_skip(text, at + 1) if is_more else at), is_more


def _close(text: str, at: int, closing: str) -> None:
    if text[at : at + 1] != closing or _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError(f"Expecting ',' or {closing!r} and the end", text, at)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in {" ", "\t", "\n", "\r"}:
        at += 1
    return at


def _canonical(name: str, value: Any, text: str) -> str:
    """A JSON attribute in the canonical text of the CloudEvents type system."""
    if text[0] == '"':
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise DecodeError(f"CloudEvents attribute {name!r} is not Unicode: it holds half a surrogate pair.")
        return str(value)
    if text in {"true", "false"} or text.lstrip("-").isdigit():
        return text
    raise DecodeError(f"CloudEvents attribute {name!r} is {text[:80]}; expected text, an integer or a boolean.")


def _decoded(encoded: Any) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except (TypeError, ValueError) as error:
        raise DecodeError(f"The structured CloudEvent's data_base64 is not base64: {error}.") from error


def _is_text(content_type: str) -> bool:
    media = media_of(content_type)
    return media.startswith("text/") or media.endswith(("/xml", "+xml"))


def _is_json_text(data: bytes) -> bool:
    try:
        json.loads(data.decode(), parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True
