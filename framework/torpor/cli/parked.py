"""`torpor parked`: the messages set aside, for an operator to see, to try again or to give up."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import ConfigurationError
from torpor.kernel.parked import ParkedQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.message import ParkedMessage
    from torpor.kernel.parked import Inspection
    from torpor.ports.store import Store

    Stores = Mapping[str, Store]
    Row = tuple[str, ParkedMessage]
    Found = tuple[str, Inspection]

_HIGHEST = 2**63 - 1


async def listed(stores: Stores, query: ParkedQuery, *, after: str | None, limit: int) -> tuple[list[Row], int]:
    """A page of the messages of every service, in order within each, and how many there are in all."""
    from_service, number = _place(stores, after)
    rows: list[Row] = []
    has_come = from_service is None
    for service, store in stores.items():
        has_come = has_come or service == from_service
        if has_come and len(rows) < limit:
            above = number if service == from_service else 0
            page = await store.parking.list(query, after=above, limit=limit - len(rows))
            rows += [(service, parked) for parked in page]
    return rows, sum((await counted(stores, query)).values())


async def counted(stores: Stores, query: ParkedQuery) -> dict[str, int]:
    """How many messages a query means, by handler."""
    counts: defaultdict[str, int] = defaultdict(int)
    for service, store in stores.items():
        for binding, count in (await store.parking.count(query)).items():
            counts[binding if binding.startswith(f"{service}.") else f"{service}: {binding}"] += count
    return dict(counts)


async def picked(stores: Stores, words: Sequence[str]) -> list[Found]:
    """The messages that NUMBER or SERVICE:NUMBER words name. Each that names none, or several, is told."""
    found: dict[tuple[str, int], Inspection] = {}
    problems: list[str] = []
    for word in words:
        matches = await _matches(stores, word)
        if len(matches) == 1:
            ((service, inspection),) = matches
            found[service, inspection.row.number] = inspection
        elif matches:
            names = " or ".join(f"{service}:{inspection.row.number}" for service, inspection in matches)
            problems.append(f"{word} is in several services. Say which: {names}")
        else:
            problems.append(f"There is no parked message {word}. See: torpor parked list")
    if problems:
        raise ConfigurationError(problems)
    return [(service, inspection) for (service, _), inspection in found.items()]


async def redriven(stores: Stores, found: Sequence[Found]) -> int:
    """Makes messages due now; returns how many of them were not waiting behind another."""
    now = time.time()
    return sum([await stores[s].parking.redrive(query, now) for s, query in _by_service(found).items()])


async def discarded(stores: Stores, found: Sequence[Found]) -> int:
    """Deletes messages; returns how many there were."""
    return sum([await stores[s].parking.discard(query) for s, query in _by_service(found).items()])


async def edited(stores: Stores, found: Found, data: bytes) -> None:
    """Gives a message another payload, which its attributes tell. Raises ConfigurationError when it is gone."""
    service, inspection = found
    row, now = inspection.row, time.time()
    when = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    attributes = {**row.message.attributes, "editedat": when}
    if not await stores[service].parking.edit(row.number, data, attributes=attributes, at=now):
        raise ConfigurationError([f"{service}:{row.number} is just being handled, and was not edited. Look again."])


def queued(found: Sequence[Found]) -> list[str]:
    """What to tell of messages that are not first in their queue, unless the first is among them."""
    chosen = {(service, inspection.row.number) for service, inspection in found}
    told = []
    for service, inspection in found:
        name, first = f"{service}:{inspection.row.number}", f"{service}:{inspection.first}"
        if name == first and inspection.row.state == "waiting":
            told.append(f"{name} is first in its queue, and about to be tried.")
        elif (service, inspection.first) not in chosen:
            told.append(
                f"{name} waits behind {first}, and follows it by itself. To go on: torpor parked redrive {first}"
            )
    return told


def described(found: Found) -> str:
    """One message, whole: what it is, why it is parked, its attributes, its bytes, and what they were before edits."""
    service, inspection = found
    parked, message = inspection.row, inspection.row.message
    facts = {
        "message": f"{service}:{parked.number}",
        "handler": parked.binding,
        "state": parked.state,
        **({} if inspection.first == parked.number else {"waits behind": f"{service}:{inspection.first}"}),
        "reason": parked.reason,
        "attempts": str(parked.attempts),
        "parked at": _moment(parked.at),
        "topic": message.topic,
        "key": "none" if message.key is None else message.key,
        "id": message.id,
        "type": message.type,
        **message.attributes,
    }
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    lines += ["", *_shown(message.data)]
    for edit in inspection.edits:
        lines += ["", f"until the edit of {_moment(edit.at)}:", *_shown(edit.data)]
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """Messages as a JSON list; `data` is text, and `data_hex` stands instead where the bytes are no UTF-8."""
    return _json([_object(service, parked) for service, parked in rows])


def described_as_json(found: Found) -> str:
    """One message as a JSON object, with what it waits behind and what it held before edits."""
    service, inspection = found
    first = inspection.first
    more = {
        "waits_behind": None if first == inspection.row.number else first,
        "edits": [{"at": edit.at, **_data(edit.data)} for edit in inspection.edits],
    }
    return _json({**_object(service, inspection.row), **more})


def _object(service: str, parked: ParkedMessage) -> dict[str, Any]:
    message = parked.message
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
        **_data(message.data),
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _data(data: bytes) -> dict[str, str]:
    text = _text(data)
    return {"data_hex": data.hex()} if text is None else {"data": text}


def _shown(data: bytes) -> list[str]:
    text = _text(data)
    form = "hexadecimal, as they are no UTF-8" if text is None else "text"
    return [f"{len(data)} bytes ({form}):", data.hex() if text is None else text]


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))


async def _matches(stores: Stores, word: str) -> list[Found]:
    wanted, _, text = word.rpartition(":")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(_HIGHEST)) else 0
    inspections = [(s, await store.parking.inspect(number)) for s, store in stores.items() if wanted in ("", s)]
    return [(service, inspection) for service, inspection in inspections if inspection is not None]


def _place(stores: Stores, after: str | None) -> tuple[str | None, int]:
    """The service and the number after which a page begins."""
    if after is None:
        return None, 0
    service, _, number = after.rpartition(":")
    if not service and len(stores) == 1:
        service = next(iter(stores))
    if service not in stores or not (number.isascii() and number.isdigit()):
        raise ConfigurationError(
            [f"--after is {after!r}. Give the last message of the page before as SERVICE:NUMBER, such as orders:17."]
        )
    return service, min(int(number), _HIGHEST)


def _by_service(found: Sequence[Found]) -> dict[str, ParkedQuery]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for service, inspection in found:
        numbers[service].append(inspection.row.number)
    return {service: ParkedQuery(numbers=tuple(of_one)) for service, of_one in numbers.items()}
