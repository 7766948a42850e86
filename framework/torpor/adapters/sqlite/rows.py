"""Messages as rows, and rows as messages."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from torpor.kernel.message import Message, ParkedMessage, Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torpor.ports.outbox import LogEntry


@cache
def _encoder() -> Callable[[Any], str]:
    """JSON in ASCII, so that it holds any text, lone surrogates too. Made late: most units write no row with it."""
    from json import JSONEncoder

    return JSONEncoder(separators=(",", ":")).encode


@cache
def _decoder() -> Callable[[str], Any]:
    from json import loads

    return loads


def headers_of(attributes: Mapping[str, str]) -> str:
    """Attributes as JSON."""
    return _encoder()(dict(attributes)) if attributes else "{}"


def outbox_row(message: Message, at: float) -> tuple[object, ...]:
    """The columns of `append`."""
    headers = headers_of(message.attributes)
    return message.key, message.topic, message.type, message.id, headers, message.data, at


def parked_row(parked: ParkedMessage) -> tuple[object, ...]:
    """The columns of `park`. Without a number the table gives the next one."""
    message = parked.message
    return (
        parked.number or None,
        parked.binding,
        parked.queue,
        message.key,
        message.topic,
        message.type,
        message.id,
        headers_of(message.attributes),
        message.data,
        parked.reason.encode(errors="backslashreplace").decode(),  # it may quote a lone surrogate
        parked.attempts,
        parked.at,
        parked.due_at,
    )


def timer_row(timer: Timer) -> tuple[object, ...]:
    """The columns of `set_timer`."""
    message = timer.message
    headers = headers_of(message.attributes)
    return timer.name, timer.due_at, message.key, message.topic, message.type, message.id, headers, message.data


def timer_of(row: Any) -> Timer:
    """A row of `due_timers`."""
    name, due_at, *message = row
    return Timer(name, due_at, _message(*message))


def log_entry(row: Any) -> LogEntry:
    """A row of `pending`."""
    from torpor.ports.outbox import LogEntry

    shard, position, is_left_out, *message = row
    return LogEntry(shard, position, _message(*message), is_left_out=bool(is_left_out))


def parked_message(row: Any) -> ParkedMessage:
    """A row of `parked` or `due`."""
    number, binding, topic, data, id, type, key, headers, reason, attempts, at, due_at = row
    message = _message(topic, data, id, type, key, headers)
    return ParkedMessage(binding, message, reason=reason, at=at, attempts=attempts, due_at=due_at, number=number)


def _message(topic: str, data: bytes, id: str, type: str, key: str | None, headers: str) -> Message:
    attributes = {} if headers == "{}" else _decoder()(headers)
    return Message(topic, data, id=id, type=type, key=key, attributes=attributes)
