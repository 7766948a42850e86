"""Records: a message as a key, a value and headers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel import cloudevents
from torpor.kernel.cloudevents.envelope import MOST_CHARACTERS, SPECVERSION
from torpor.kernel.errors import Rejected
from torpor.kernel.message import Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Header = tuple[str, Any]  # bytes, or None
    Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]

TOMBSTONE = "tombstone"  # the attribute of a message whose value is null
_PREFIX = cloudevents.KAFKA.prefix
_ID, _TYPE, _SOURCE, _KEY = (_PREFIX + name for name in ("id", "type", "source", "partitionkey"))
_VERSION = (_PREFIX + "specversion", SPECVERSION.encode())
_OWN = 4  # headers that each message has, in this order: version, id, type and source; its key follows them
_COMMON = ("time", "subject", "sequence", "correlationid", "causationid", "traceparent", "tracestate")
_OTHERS = {"content-type": "datacontenttype", **{_PREFIX + name: name for name in _COMMON}}
_PLAIN = frozenset({"application/json", ""})
_SHORT = MOST_CHARACTERS // 8  # of any part: together they are fewer than may be read
_new = Message.__new__


def encode(message: Message) -> Record:
    """The key, the value and the headers of a message. Raises Rejected for what no record can carry."""
    headers = cloudevents.encode(message, cloudevents.KAFKA)
    is_null = headers.pop(_PREFIX + TOMBSTONE, None) is not None and not message.data and message.key is not None
    try:
        return (
            None if message.key is None else message.key.encode(),
            None if is_null else message.data,
            [(name, value.encode()) for name, value in headers.items()],
        )
    except UnicodeEncodeError as error:
        raise Rejected(f"{message!r} holds text that is no Unicode text ({error.reason}).") from error


def read(records: Iterable[Any], topic: str, number: int, *, holder: object) -> list[Delivery]:
    """The deliveries of records of one partition of a topic, each with the holder and its offset as the token.

    What `encode` writes is read here, with no call for a record that has the headers that it must have and no more;
    all else by `decode`, with the same result.
    """
    deliveries = []
    kind = origin = None  # headers of the record before, which are mostly those of the next, and what they say:
    type, shared = "", {"source": ""}
    for record in records:
        headers, data, fault = record.headers, record.value, None
        try:
            if headers[2] != kind or headers[3] != origin:
                type, shared = _read_origin(headers[2], headers[3])
                kind, origin = headers[2:4]
            (name, id), key, own = headers[1], record.key, _OWN
            if len(headers) > _OWN and headers[_OWN][0] == _KEY:
                key, own = headers[_OWN][1] or b"", _OWN + 1
            is_short = 0 < len(id) <= _SHORT and (key is None or len(key) <= _SHORT)
            if headers[0] != _VERSION or name != _ID or data is None or not is_short:
                raise LookupError  # out of the ordinary
            message = _new(Message)  # its constructor, called by keywords, costs as much as all the rest
            message.topic, message.data, message.type, message.id = topic, data, type, id.decode()
            message.key = None if key is None else key.decode()
            message.attributes = shared if len(headers) == own else _read_others(headers[own:], shared)
        except (AttributeError, LookupError, TypeError, ValueError):
            message, fault = decode(record, topic, number)
        deliveries.append(Delivery(message, (holder, record.offset)))
        if fault is not None:
            deliveries[-1].fault = fault
    return deliveries


def _read_origin(kind: Header, origin: Header) -> tuple[str, dict[str, str]]:
    """The type, and the attributes that all records of one origin share. Raises for what is out of the ordinary."""
    (name, type), (other, source) = kind, origin
    if name != _TYPE or other != _SOURCE or not type or not source or len(type) + len(source) > _SHORT:
        raise LookupError
    return type.decode(), {"source": source.decode()}


def _read_others(headers: Sequence[Header], shared: Mapping[str, str]) -> dict[str, str]:
    """The attributes of a record that has more headers than it must have. Raises for what is out of the ordinary."""
    attributes = dict(shared)
    for name, value in headers:
        attributes[_OTHERS[name]] = value.decode()
    if attributes.get("datacontenttype", "") not in _PLAIN or len("".join(attributes.values())) > _SHORT:
        raise LookupError
    return attributes


def decode(record: Any, topic: str, number: int) -> tuple[Message, str | None]:
    """The message in a record of one partition of a topic, and why its envelope cannot be read, or None.

    A record's key is the message's, unless the envelope says another. A null value is an empty payload with the
    attribute `tombstone`.
    """
    headers: dict[str, str] = {}
    fault = None
    for name, value in record.headers:
        try:
            headers[name] = "" if value is None else value.decode()
        except UnicodeDecodeError:
            headers[name] = value.decode("utf-8", "backslashreplace")
            if name.lower().startswith(_PREFIX):
                fault = f"Header {name!r} is no UTF-8 text."
    message, unread = cloudevents.decode(
        headers,
        record.value or b"",
        topic=topic,
        position=f"{topic}:{number}:{record.offset}",
        style=cloudevents.KAFKA,
    )
    if message.key is None and record.key is not None:
        message.key = record.key.decode("utf-8", "backslashreplace")
    if record.value is None:
        message.attributes = {**message.attributes, TOMBSTONE: "true"}
    return message, fault or unread
