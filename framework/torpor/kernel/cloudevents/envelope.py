"""The envelope: what it must have, what it may be called, and how much of it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import DecodeError, Rejected
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

SPECVERSION = "1.0"
STRUCTURED = "application/cloudevents"
BATCHED = "application/cloudevents-batch"
DEFAULT_SOURCE = "/torpor"
MOST_ATTRIBUTES = 100
MOST_CHARACTERS = 65_536  # of all attributes together

OWN_FIELDS = frozenset({"id", "type", "specversion", "partitionkey"})  # of `Message`, so no attributes of it
_SECRET = frozenset({"authorization", "proxy-authorization", "cookie"})
_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def assemble(envelope: dict[str, str], data: bytes, topic: str) -> Message:
    """The message of an envelope, which is taken apart. Raises DecodeError."""
    if len(envelope) > MOST_ATTRIBUTES or len("".join(envelope.values())) > MOST_CHARACTERS:
        raise DecodeError(
            f"The CloudEvents envelope is too large. At most {MOST_ATTRIBUTES} attributes and {MOST_CHARACTERS} "
            "characters are read; what is larger belongs into the data."
        )
    id, type, version = envelope.pop("id", ""), envelope.pop("type", ""), envelope.pop("specversion", "")
    source = envelope.get("source", "")
    if not (id and type and version and source):
        required = {"id": id, "source": source, "specversion": version, "type": type}
        raise DecodeError(
            f"The CloudEvents envelope lacks {', '.join(name for name, value in required.items() if not value)}. "
            f"It needs {', '.join(required)}, or none at all."
        )
    if version != SPECVERSION:
        raise DecodeError(f"The CloudEvents envelope has specversion {version[:20]!r}; only {SPECVERSION!r} is read.")
    return Message(topic, data, id=id, type=type, key=envelope.pop("partitionkey", None), attributes=envelope)


def foreign(headers: dict[str, str], data: bytes, *, topic: str, position: str) -> Message:
    """A message without an envelope: its id is its position, and its headers are its attributes."""
    attributes = kept(headers)
    if "content-type" in attributes:
        attributes["datacontenttype"] = attributes.pop("content-type")
    return Message(topic, data, id=position, type="", attributes=attributes)


def faulty(headers: Mapping[str, str], data: bytes, *, topic: str, position: str) -> Message:
    """A message whose envelope cannot be read, with headers and bytes as they came."""
    return Message(topic, data, id=position, type="", attributes=kept(headers))


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without those that hold credentials."""
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET}


def is_name(name: str) -> bool:
    """Whether an attribute in lower case can be carried everywhere."""
    return bool(name) and _NAME.issuperset(name)


def checked(name: str, message: Message) -> str:
    """An attribute's name in lower case. Raises Rejected for one that no header can carry."""
    lowered = name.lower()
    if is_name(lowered):
        return lowered
    raise Rejected(
        f"Attribute {name!r} of message {message.id} on {message.topic!r} is no header name. "
        "Expected letters and digits; rename it."
    )
