"""What is wrong with a contract, told before anything is opened."""

from __future__ import annotations

from typing import Any

from torpor.contract.payload import Raw, fields_of
from torpor.kernel.errors import did_you_mean

_IN_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")  # sets: a pattern takes its time to compile
_IN_TOPIC = _IN_NAME | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LONGEST_NAME = 63
_LONGEST_TOPIC = 200


def is_name(name: str) -> bool:
    """Whether a service or a group may have a name: a small letter, then small letters, digits, - and _."""
    return _IN_NAME.issuperset(name) and name[:1].isalpha() and len(name) <= _LONGEST_NAME


def is_topic(topic: str) -> bool:
    """Whether a topic may have a name: words of letters, digits, - and _, joined by dots."""
    return len(topic) <= _LONGEST_TOPIC and all(word and _IN_TOPIC.issuperset(word) for word in topic.split("."))


def problems_of(contract: type[Any], *, is_handled: bool) -> list[str]:
    """What is wrong with a contract that has a topic, as ends of sentences about it. Who only publishes it needs no
    way to read older versions."""
    found = []
    fields = fields_of(contract)
    key, codec = contract.__torpor_key__, contract.__torpor_codec__
    if codec is None and not hasattr(contract, "__pydantic_validator__"):
        found.append("which is neither an Event nor a msgspec.Struct. Give it a codec that writes and reads it.")
    if key is not None and fields and key not in fields:
        found.append(f"whose key {key!r} is none of its fields.{did_you_mean(key, fields)}")
    if isinstance(codec, Raw) and [hint in (bytes, "bytes") for hint in fields.values()] != [True]:
        found.append(f"whose payload is {codec!r}. It needs one field, of the type bytes; it has {_told(fields)}.")
    if contract.__torpor_version__ == 1 and not contract.__torpor_upcasts__:
        return found
    from torpor.contract.versions import problems_of as problems_of_versions

    return found + problems_of_versions(contract, is_handled=is_handled)


def _told(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {getattr(hint, '__name__', hint)}" for name, hint in fields.items()) or "none"
