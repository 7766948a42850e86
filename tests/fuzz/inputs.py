"""Inputs for the CloudEvents decoder and the push endpoint: valid requests, mutated ones, and noise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
_PATHS = ("/", "/-/events/fuzzed.keyed", "/-/events/fuzzed.strict", "/-/events/fuzzed.batched", "/-/events/nobody")
_METHODS = ("POST",) * 20 + ("OPTIONS", "GET", "PUT", "HEAD", "")
_TYPES = ("fuzzed", "other", "", "\x80", "x" * 70_000, "fuzz%65d", '"fuzzed"', "%ff", "%")
_CONTENT = (
    "application/json", STRUCTURED, BATCHED, f"{STRUCTURED}; charset=utf-8", f"{STRUCTURED}; charset=utf-16",
    "application/cloudevents", "application/cloudevents-batch", "application/cloudevents+avro", "text/plain", "",
    "application/octet-stream", "text/xml;charset=latin-1", "application/json;charset=\xff",
)  # fmt: skip
_VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 10**40, 1.5, 1e999, "", "1", "1.0", "a b", "\ud800", "é", "\x00", [], {}, [1], {"a": 1},
    "x" * 3_000, "ZnV6eg==", "!", "2026-01-01T00:00:00Z",
)  # fmt: skip
_NAMES = (
    "id", "source", "type", "specversion", "data", "data_base64", "datacontenttype", "dataschema", "subject", "time",
    "partitionkey", "key", "traceparent", "dataversion", "Id", "ID", "x-y", "", "é", "\udfff", "sequence",
)  # fmt: skip


class Input:
    """One request."""

    __slots__ = ("body", "headers", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"{self.method} {self.path} {self.headers} {self.body[:300]!r}"


def make(chance: Random) -> Input:
    """A request: one in four is left as it is."""
    mode = chance.randrange(3)
    content_type = (chance.choice(_CONTENT), STRUCTURED, BATCHED)[mode] if chance.random() < 0.9 else ""
    headers = {"content-type": content_type} if content_type or chance.random() < 0.5 else {}
    if mode == 0:
        headers |= {f"ce-{name}": str(value) for name, value in _envelope(chance).items() if _is_header(name, value)}
        body = _data(chance)
    else:
        events = [{**_envelope(chance), "data": {"id": "k", "n": 1}} for _ in range(chance.randint(0, 4))]
        body = json.dumps(events if mode == 2 else (events or [{}])[0]).encode()
    if chance.random() < 0.75:
        headers, body = _mutated_headers(chance, headers), _mutated(chance, body)
    method = chance.choice(_METHODS) if chance.random() < 0.2 else "POST"
    return Input(method, chance.choice(_PATHS), headers, body)


def _envelope(chance: Random) -> dict[str, object]:
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "id": f"{chance.getrandbits(64):x}",
        "source": "/fuzz",
        "type": "fuzzed",
    }
    for _ in range(chance.randint(0, 2) if chance.random() < 0.5 else 0):
        envelope[chance.choice(_NAMES)] = chance.choice(_VALUES)
    if chance.random() < 0.1:
        envelope.pop(chance.choice(list(envelope)))
    if chance.random() < 0.05:
        envelope["type"] = chance.choice(_TYPES)
    return envelope


def _is_header(name: str, value: object) -> bool:
    return isinstance(value, str | int) and f"{name}{value}".isascii()  # a server reads bytes of Latin-1


def _data(chance: Random) -> bytes:
    if chance.random() < 0.5:
        return b'{"id": "k", "n": 1}'
    return json.dumps(chance.choice(_VALUES)).encode()


def _mutated_headers(chance: Random, headers: dict[str, str]) -> dict[str, str]:
    changed = dict(headers)
    for _ in range(chance.randint(0, 2)):
        name = f"ce-{chance.choice(_NAMES)}".encode("latin-1", "replace").decode("latin-1")
        if changed and chance.random() < 0.6:
            name = chance.choice(list(changed))
        value = changed.get(name, "")
        match chance.randrange(4):
            case 0:
                changed.pop(name, None)
            case 1:
                changed[name] = _mutated(chance, value.encode("latin-1")).decode("latin-1")
            case 2:
                changed[name] = chance.choice(_TYPES)
            case _:
                changed[name] = f'"{value}\\' if chance.random() < 0.5 else f"%{value}"
    return changed


def _mutated(chance: Random, whole: bytes) -> bytes:
    changed = bytearray(whole)
    for _ in range(chance.randint(0, 3)):
        at = chance.randint(0, len(changed))
        match chance.randrange(5):
            case 0:
                changed[at : at + chance.randint(0, 8)] = chance.randbytes(chance.randint(0, 8))
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = changed[: chance.randint(0, 64)]
            case 3:
                changed[at:at] = chance.choice(
                    (b"[" * 3_000, b'{"a":' * 500, b'"', b"\\u0000", b"\xff", b",", b"1e9999")
                )
            case _:
                if changed:
                    changed[at % len(changed)] ^= 1 << chance.randrange(8)
    return bytes(changed)
