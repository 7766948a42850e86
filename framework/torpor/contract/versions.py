"""Versions of a contract: which one a message carries, and how an older one becomes the present one.

The version is the CloudEvents extension `dataversion`, which version 1 does not write. Its type stays the same, so that
who filters by type goes on to see the events; and `dataschema` stays free for the address of a schema.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torpor.contract.payload import VERSION, content_type_of
from torpor.kernel.errors import DecodeError
from torpor.kernel.media import is_json

if TYPE_CHECKING:
    from torpor.kernel.message import Message


def current(contract: type[Any], message: Message) -> bytes:
    """The payload of a message in the version that the code declares: as it is, or led there from an older version; a
    codec of another format than JSON does that itself. Raises DecodeError: the version is no number or newer than the
    code, nothing leads from it to the next, or an upcast failed."""
    name, written, known = contract.__name__, _version_of(message), contract.__torpor_version__
    if written == known:
        return message.data
    if written > known:
        raise DecodeError(
            f"{message.topic} carries version {written} of {name}, and this code knows version {known}. "
            f"Deploy the code that knows version {written}, and redrive it."
        )
    if not is_json(content_type_of(contract)):
        return message.data
    payload = _parsed(contract, message)
    for version in range(written, known):
        step = contract.__torpor_upcasts__.get(version)
        if step is None:
            raise DecodeError(
                f"{message.topic} carries version {written} of {name}, and nothing leads from version {version} to "
                f"{version + 1}. Declare the class with upcasts={{{version}: ...}}, and redrive it."
            )
        try:
            payload = step(payload)
        except Exception as error:
            raise DecodeError(
                f"{name} does not fit: the upcast from version {version} failed with {type(error).__name__}: {error}."
            ) from error
        if not isinstance(payload, dict):
            raise DecodeError(
                f"{name} does not fit: the upcast from version {version} returned a {type(payload).__name__}. "
                "Return the payload as a dict."
            )
    return _written(contract, payload)


def problems_of(contract: type[Any], *, is_handled: bool) -> list[str]:
    """What is wrong with a contract's version and upcasts, as ends of sentences."""
    version, upcasts = contract.__torpor_version__, contract.__torpor_upcasts__
    if not isinstance(version, int) or version < 1:
        return [f"whose version is {version!r}. Versions are 1, 2, 3 …"]
    if not is_json(content_type_of(contract)):
        return ["which has upcasts, and is not JSON. Let its codec read what is older."] if upcasts else []
    older = range(1, version)
    found = [
        f"which has an upcast from version {known!r}, and is version {version}. An upcast leads from an older version."
        for known in upcasts
        if known not in older
    ]
    if not is_handled:
        return found
    oldest = min((known for known in upcasts if known in older), default=version - 1)
    found += [
        f"which has no upcast from version {known}. Write upcasts={{{known}: f}}, f making version {known + 1} of it."
        for known in older[max(oldest - 1, 0) :]
        if known not in upcasts
    ]
    return found


def oldest_of(contract: type[Any]) -> int:
    """The oldest version that a contract reads."""
    oldest: int = min(contract.__torpor_upcasts__, default=contract.__torpor_version__)
    return oldest


def _version_of(message: Message) -> int:
    written = message.attributes.get(VERSION, "1")
    if written.isascii() and written.isdecimal() and len(written) <= 9 and written != "0":
        return int(written)
    raise DecodeError(f"{message.topic} carries the {VERSION} {written[:80]!r}. Expected a number: 1, 2, 3 …")


def _parsed(contract: type[Any], message: Message) -> dict[str, Any]:
    try:
        payload = json.loads(message.data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{contract.__name__} does not fit: the payload is not JSON: {error}.") from error
    if not isinstance(payload, dict):
        raise DecodeError(
            f"{contract.__name__} does not fit: an older version must be a JSON object, and this is a "
            f"{type(payload).__name__}."
        )
    return payload


def _written(contract: type[Any], payload: dict[str, Any]) -> bytes:
    try:
        return json.dumps(payload).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError(
            f"{contract.__name__} does not fit: an upcast returned what JSON cannot hold: {error}."
        ) from error
