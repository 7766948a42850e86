"""Messages as columns of rows, and rows as messages."""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as _quoted
from typing import TYPE_CHECKING, Any

from torpor.adapters.postgres.text import ESCAPE, array, indexed, joined, literal, read, stored
from torpor.kernel.keys import slot_of, slots_of
from torpor.kernel.message import Message, ParkedMessage, Timer
from torpor.ports.outbox import LogEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Columns = list[list[Any]]

_decode = json.JSONDecoder().raw_decode  # of what we have written, with no space around it


def outbox_columns(messages: Sequence[Message], shards: int) -> list[Any]:
    """The parameters of `append`."""
    slots = slots_of([message.id if message.key is None else message.key for message in messages], shards)
    return [
        slots,
        joined([message.key for message in messages]),
        joined([message.topic for message in messages]),
        joined([message.type for message in messages]),
        joined([message.id for message in messages]),
        joined(_headers_of_all(messages)),
        [message.data for message in messages],
    ]


def outbox_literals(messages: Sequence[Message], shards: int) -> list[str]:
    """The same as literals; of one message, those of `append_one`."""
    if len(messages) == 1:
        (message,) = messages
        *row, payload = _message_row(message)
        texts = ["NULL" if text is None else literal(text) for text in row]
        return [str(slot_of(message, shards)), *texts, literal(f"\\x{payload.hex()}")]
    slots, *texts, payloads = outbox_columns(messages, shards)
    hexed = array([f"\\x{payload.hex()}" for payload in payloads])
    return [array(map(str, slots)), *map(literal, texts), hexed]


def parked_columns(rows: Iterable[ParkedMessage]) -> Columns:
    """The arrays of `park`. Without a number the table gives the next one."""
    return _columns(
        [
            (
                row.number or None,
                stored(row.binding),
                None if row.queue is None else indexed(row.queue),
                *_message_row(row.message),
                stored(row.reason),
                row.attempts,
                row.at,
                row.due_at,
            )
            for row in rows
        ]
    )


def timer_columns(timers: Iterable[Timer]) -> Columns:
    """The arrays of `set_timers`. Of those with one name the last counts; in order, so that units do not deadlock."""
    last = {indexed(timer.name): timer for timer in timers}
    return _columns(
        [
            (handle, stored(timer.name), timer.due_at, *_message_row(timer.message))
            for handle, timer in sorted(last.items())
        ]
    )


def log_entries(rows: Iterable[Iterable[Any]]) -> list[LogEntry]:
    """Rows of `pending`. Those that follow each other with the same headers share their attributes, read once."""
    written: str | None = None
    attributes: Mapping[str, str] = {}
    entries = []
    for shard, position, topic, data, id, type, key, headers in rows:
        if headers != written:
            written, attributes = headers, _attributes(headers)
        entries.append(LogEntry(shard, position, _message(topic, data, id, type, key, attributes)))
    return entries


def parked_message(row: Iterable[Any]) -> ParkedMessage:
    """A row of `parked` or `due`."""
    number, binding, topic, data, id, type, key, headers, reason, attempts, at, due_at = row
    message = _message(topic, data, id, type, key, _attributes(headers))
    return ParkedMessage(
        read(binding), message, reason=read(reason), at=at, attempts=attempts, due_at=due_at, number=number
    )


def timer(row: Iterable[Any]) -> Timer:
    """A row of `due_timers`."""
    name, due_at, topic, data, id, type, key, headers = row
    return Timer(read(name), due_at, _message(topic, data, id, type, key, _attributes(headers)))


def _columns(rows: list[tuple[Any, ...]]) -> Columns:
    return [list(column) for column in zip(*rows, strict=True)]


def _message_row(message: Message) -> tuple[str | None, str, str, str, str, bytes]:
    return (
        None if message.key is None else stored(message.key),
        stored(message.topic),
        stored(message.type),
        stored(message.id),
        headers_of(message.attributes),
        message.data,
    )


def _headers_of_all(messages: Iterable[Message]) -> list[str]:
    """The attributes of each as JSON. Those that were published together share theirs, which are then written once."""
    shared: Mapping[str, str] | None = None
    written = ""
    all_written = []
    for message in messages:
        if message.attributes is not shared:
            shared = message.attributes
            written = headers_of(shared)
        all_written.append(written)
    return all_written


def headers_of(attributes: Mapping[str, str]) -> str:
    """Attributes as JSON: ASCII, so that it holds any text, lone surrogates too."""
    return "{" + ",".join([f"{_quoted(name)}:{_quoted(value)}" for name, value in attributes.items()]) + "}"


def _attributes(headers: str) -> Mapping[str, str]:
    attributes: Mapping[str, str] = _decode(headers)[0]
    return attributes


def _message(topic: str, data: bytes, id: str, type: str, key: str | None, attributes: Mapping[str, str]) -> Message:
    if ESCAPE in id or ESCAPE in topic or ESCAPE in type or (key is not None and ESCAPE in key):
        topic, id, type, key = read(topic), read(id), read(type), None if key is None else read(key)
    return Message(topic, data, id=id, type=type, key=key, attributes=attributes)
