"""What a change of a contract breaks, by the shapes before and after.

Who handles a contract must go on reading what is on its way, in the outbox or parked. Who publishes it must go on being
read by those that listen with the old class. Both are one question, asked in both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torpor.contract.schemas import misfits, removed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torpor.contract.shapes import Shape

_WIRE = (
    ("topic", "Messages on their way stay on the old topic, and listeners do not move along"),
    ("type", "Listeners park messages of another type"),
    ("content_type", "Listeners park messages of another content type"),
    ("key", "Messages are ordered by another value, and old and new ones of one thing overtake each other"),
)


class Change(NamedTuple):
    """One change of a contract: where it is, what it is, and what to do about it when it breaks something."""

    place: str
    what: str
    is_breaking: bool = False
    remedy: str = ""


def changes(old: Mapping[str, Shape], new: Mapping[str, Shape], service: str) -> list[Change]:
    """What has changed between the contracts of a service, by their names."""
    found = []
    for name in sorted({*old, *new}):
        place = f"{service}: {name}"
        if name not in new:
            remedy = "Accept it with --write once no message of it is on its way and nobody listens to it."
            found.append(Change(place, "it is gone", is_breaking=True, remedy=remedy))
        elif name not in old:
            found.append(Change(place, "it is new"))
        else:
            found += compare(old[name], new[name], place)
    return found


def compare(old: Shape, new: Shape, place: str) -> list[Change]:
    """What has changed in one contract."""
    if new["version"] != old["version"]:
        return list(_versioned(old, new, place))
    found = list(_wire(old, new, place))
    if new["oldest"] > old["oldest"] and new["handles"]:
        what = f"version {old['oldest']} was read, and {new['oldest']} is the oldest now"
        found.append(_broken(place, what, new, "Messages of that version are parked"))
    found += [
        change for role in ("handles", "publishes") if old[role] != new[role] for change in _role(place, new, role)
    ]
    return found + list(_payload(old, new, place))


def _versioned(old: Shape, new: Shape, place: str) -> Iterator[Change]:
    was, now = old["version"], new["version"]
    if now < was:
        remedy = f"Messages of version {was} are parked by it. Declare version={was} or higher."
        yield Change(place, f"the version fell from {was} to {now}", is_breaking=True, remedy=remedy)
    elif new["handles"] and new["oldest"] > was:
        remedy = (
            f"Messages on their way are parked. Give the class upcasts={{{was}: …}}, from version {was} to the next."
        )
        yield Change(place, f"version {now} does not read version {was}", is_breaking=True, remedy=remedy)
    else:
        who = "this before who publishes it" if new["handles"] else "who listens to it before this"
        yield Change(place, f"version {was} became {now}: deploy {who}")
        if new["handles"] and new["topic"] != old["topic"]:
            yield Change(place, f"the topic was {old['topic']!r}: what is on its way there is not read any more")


def _wire(old: Shape, new: Shape, place: str) -> Iterator[Change]:
    for field, why in _WIRE:
        if old[field] != new[field]:  # type: ignore[literal-required]  # the names stand above
            what = f"the {field.replace('_', ' ')} was {old[field]!r} and is {new[field]!r}"  # type: ignore[literal-required]
            yield _broken(place, what, new, why)


def _role(place: str, new: Shape, role: str) -> Iterator[Change]:
    does = new[role]  # type: ignore[literal-required]  # one of two
    verb = {"handles": "handled", "publishes": "published"}[role]
    yield Change(place, f"it is {verb} now" if does else f"it is not {verb} any more")


def _payload(old: Shape, new: Shape, place: str) -> Iterator[Change]:
    before, after = old["schema"], new["schema"]
    if before == after or before is None or after is None:
        if before != after:
            yield _broken(place, "its schema came or went, so that nothing can be compared", new, "Look at it yourself")
        return
    told = set()
    if old["handles"] and new["handles"]:
        for where, what in misfits(after, before):
            told.add(where)
            why = f"Messages on their way are parked: {what}"
            yield _broken(f"{place}.{where}" if where else place, "it reads less than before", new, why)
    if not (old["publishes"] and new["publishes"]):
        yield from (_noted(place, where) for where in removed(before, after) if where not in told)
        return
    for where in removed(before, after):
        told.add(where)
        yield _broken(f"{place}.{where}", "it was removed", new, "Listeners that read it find nothing")
    for where, what in misfits(before, after, fills_defaults=True):
        if where not in told:
            told.add(where)
            why = f"Listeners with the old class park what is published: {what}"
            yield _broken(f"{place}.{where}" if where else place, "more may be written than before", new, why)
    added = removed(after, before)
    yield from (Change(f"{place}.{where}", "it was added") for where in added if where not in told)


def _noted(place: str, where: str) -> Change:
    return Change(f"{place}.{where}", "it is not read any more")


def _broken(place: str, what: str, new: Shape, why: str) -> Change:
    version = new["version"]
    remedy = f"{why}. Take it back, or declare version={version + 1} with upcasts={{{version}: …}}."
    return Change(place, what, is_breaking=True, remedy=remedy)
