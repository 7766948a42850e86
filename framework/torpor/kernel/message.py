"""The message: CloudEvents attributes and a payload, and the delivery of one to a binding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

_NONE: Mapping[str, str] = {}


_SHOWN = 80


def shown(text: str) -> str:
    """A text from outside, cut to what a line of a log can bear."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class Message:
    """One message, as it is stored in the outbox and sent over a broker. Immutable by convention.

    `attributes` holds the CloudEvents attributes that are not fields of their own (`source`, `time`,
    `datacontenttype`, `traceparent`, `correlationid`, `causationid` …), all as text, without a prefix.
    """

    __slots__ = ("attributes", "data", "id", "key", "topic", "type")

    def __init__(
        self,
        topic: str,
        data: bytes,
        *,
        id: str,
        type: str,
        key: str | None = None,
        attributes: Mapping[str, str] = _NONE,
    ) -> None:
        self.topic = topic
        self.data = data
        self.id = id
        self.type = type
        self.key = key
        self.attributes = attributes

    def __repr__(self) -> str:
        key = "" if self.key is None else f" key={shown(self.key)!r}"
        return f"<Message {self.topic} id={shown(self.id)}{key} {len(self.data)} bytes>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable by construction, so not a dict key


class Delivery:
    """One message handed to one binding, with the adapter's token to acknowledge it.

    `fault` is set by an adapter that could not read the envelope: the message then holds the raw bytes, and is
    parked at once. `parked` is the number of the parked row that this delivery redrives. `attempts` counts the
    handler's failures so far, and `error` is the last of them. `outcome` is what became of it; None when it was not
    handled: it was a duplicate, or waits behind its queue.
    """

    __slots__ = ("attempts", "error", "fault", "message", "outcome", "parked", "token")

    def __init__(
        self,
        message: Message,
        token: Any = None,
        *,
        fault: str | None = None,
        parked: int | None = None,
        attempts: int = 0,
    ) -> None:
        self.message = message
        self.token = token
        self.fault = fault
        self.parked = parked
        self.attempts = attempts
        self.error: Exception | None = None
        self.outcome: Literal["succeeded", "failed"] | None = None

    def __repr__(self) -> str:
        return f"<Delivery of {self.message!r} attempts={self.attempts}>"


class ParkedMessage:
    """A message set aside, in order, with its reason.

    `queue` is what it stands in line with, in its binding: its key, unless the binding's order says otherwise; None
    when nothing waits for it. `due_at` is None while the message waits for an operator, and a time (seconds since the
    epoch) from which it may be tried again; only the first row of a queue is ever tried. A message that merely waits
    behind its queue has 0. `number` is given by the store and orders the rows.
    """

    __slots__ = ("at", "attempts", "binding", "due_at", "message", "number", "queue", "reason")

    def __init__(
        self,
        binding: str,
        message: Message,
        *,
        reason: str,
        at: float,
        attempts: int = 0,
        due_at: float | None = None,
        number: int = 0,
    ) -> None:
        self.binding = binding
        self.message = message
        self.reason = reason
        self.at = at
        self.attempts = attempts
        self.due_at = due_at
        self.number = number
        self.queue = message.key

    @property
    def state(self) -> str:
        """`parked` (an operator decides), `waiting` (behind its queue), or `due` (to be tried again)."""
        if self.due_at is None:
            return "parked"
        return "due" if self.due_at else "waiting"

    def __repr__(self) -> str:
        return f"<ParkedMessage {self.number} {self.state} for {self.binding}: {self.reason}>"


class Timer:
    """A message to be published later. Its name is what it can be replaced and cancelled by."""

    __slots__ = ("due_at", "message", "name")

    def __init__(self, name: str, due_at: float, message: Message) -> None:
        self.name = name
        self.due_at = due_at
        self.message = message

    def __repr__(self) -> str:
        return f"<Timer {self.name} due at {self.due_at} with {self.message!r}>"
