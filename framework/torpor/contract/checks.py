"""What is wrong with a contract, told before anything is opened."""

from __future__ import annotations

from typing import Any

from torpor.contract.payload import Raw, fields_of
from torpor.kernel.errors import did_you_mean


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
