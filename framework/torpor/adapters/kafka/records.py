"""Records: a message as a key, a value and headers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel import cloudevents
from torpor.kernel.cloudevents.envelope import assemble
from torpor.kernel.errors import DecodeError, Rejected

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from torpor.kernel.message import Message

    Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]

TOMBSTONE = "tombstone"  # the attribute of a message whose value is null
_PREFIX = cloudevents.KAFKA.prefix
_PLAIN = frozenset({"application/json", ""})
_COMMON = (
    *("id", "type", "source", "specversion", "partitionkey", "time", "subject", "sequence"),
    *("correlationid", "causationid", "traceparent", "tracestate"),
)
_NAMES = {"content-type": "datacontenttype", **{_PREFIX + name: name for name in _COMMON}}


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


def decode(record: ConsumerRecord[bytes, bytes]) -> tuple[Message, str | None]:
    """The message in a record, and why its envelope cannot be read, or None.

    A record's key is the message's, unless the envelope says another. A null value is an empty payload with the
    attribute `tombstone`.
    """
    try:
        envelope = {_NAMES[name]: str(value, "utf-8") for name, value in record.headers}
        if record.value is not None and envelope.get("datacontenttype", "") in _PLAIN:
            message = assemble(envelope, record.value, record.topic)
            if message.key is None and record.key is not None:
                message.key = record.key.decode("utf-8", "backslashreplace")
            return message, None
    except (DecodeError, KeyError, TypeError, UnicodeDecodeError):
        pass  # no plain message of ours
    return decode_any(record)


def decode_any(record: ConsumerRecord[bytes, bytes]) -> tuple[Message, str | None]:
    """As `decode`, which takes a shorter way where it may."""
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
        topic=record.topic,
        position=f"{record.topic}:{record.partition}:{record.offset}",
        style=cloudevents.KAFKA,
    )
    if message.key is None and record.key is not None:
        message.key = record.key.decode("utf-8", "backslashreplace")
    if record.value is None:
        message.attributes = {**message.attributes, TOMBSTONE: "true"}
    return message, fault or unread
