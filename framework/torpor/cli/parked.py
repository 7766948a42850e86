"""`torpor parked`: the messages set aside, for an operator to see, to try again or to give up."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.message import ParkedMessage
    from torpor.ports.store import Store

    Stores = Mapping[str, Store]
    Row = tuple[str, ParkedMessage]

_ALL = 1_000_000


async def listed(stores: Stores, *, binding: str | None, key: str | None, limit: int) -> list[Row]:
    """The parked messages of every service, in order within each."""
    rows: list[Row] = []
    for service, store in stores.items():
        rows += [(service, parked) for parked in await store.parking.list(binding=binding, key=key, limit=limit)]
    return rows[:limit]


async def picked(stores: Stores, words: Sequence[str]) -> list[Row]:
    """The messages that NUMBER or SERVICE:NUMBER words name. Each that names none, or several, is told."""
    rows = await listed(stores, binding=None, key=None, limit=_ALL)
    found: list[Row] = []
    problems: list[str] = []
    for word in words:
        service, _, number = word.rpartition(":")
        matches = [row for row in rows if str(row[1].number) == number and service in ("", row[0])]
        if len(matches) == 1:
            found += matches
        elif matches:
            names = " or ".join(f"{row[0]}:{number}" for row in matches)
            problems.append(f"{word} is in several services. Say which: {names}")
        else:
            problems.append(f"There is no parked message {word}. See: torpor parked list")
    if problems:
        raise ConfigurationError(problems)
    return found


async def redriven(stores: Stores, rows: Sequence[Row]) -> int:
    """Makes messages due now; returns how many of them were parked."""
    return sum([await stores[s].parking.redrive(numbers, time.time()) for s, numbers in _by_service(rows).items()])


async def discarded(stores: Stores, rows: Sequence[Row]) -> int:
    """Deletes messages; returns how many there were."""
    return sum([await stores[s].parking.discard(numbers) for s, numbers in _by_service(rows).items()])


def described(row: Row) -> str:
    """One message, whole: what it is, why it is parked, its attributes, its bytes."""
    service, parked = row
    message = parked.message
    facts = {
        "message": f"{service}:{parked.number}",
        "handler": parked.binding,
        "state": parked.state,
        "reason": parked.reason,
        "attempts": str(parked.attempts),
        "parked at": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(parked.at)),
        "topic": message.topic,
        "key": "none" if message.key is None else message.key,
        "id": message.id,
        "type": message.type,
        **message.attributes,
    }
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    text = _text(message.data)
    form = "hexadecimal, as they are no UTF-8" if text is None else "text"
    return "\n".join([*lines, "", f"{len(message.data)} bytes ({form}):", message.data.hex() if text is None else text])


def as_json(rows: Sequence[Row]) -> str:
    """Messages as a JSON list; `data` is text, and `data_hex` stands instead where the bytes are no UTF-8."""
    return json.dumps([_object(service, parked) for service, parked in rows], indent=2, ensure_ascii=False)


def _object(service: str, parked: ParkedMessage) -> dict[str, Any]:
    message = parked.message
    text = _text(message.data)
    return {
        "service": service,
        "number": parked.number,
        "binding": parked.binding,
        "state": parked.state,
        "reason": parked.reason,
        "attempts": parked.attempts,
        "parked_at": parked.at,
        "due_at": parked.due_at,
        "topic": message.topic,
        "key": message.key,
        "id": message.id,
        "type": message.type,
        "attributes": dict(message.attributes),
        **({"data_hex": message.data.hex()} if text is None else {"data": text}),
    }


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _by_service(rows: Sequence[Row]) -> dict[str, list[int]]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for service, parked in rows:
        numbers[service].append(parked.number)
    return dict(numbers)
