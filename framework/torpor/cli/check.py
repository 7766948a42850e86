"""`torpor check`: what is wrong with services, and with settings where there are any; contracts written to a file, and
compared with those in it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torpor.contract.compatibility import Change, changes
from torpor.contract.shapes import answer_shape, shape_of
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torpor.contract.shapes import Shape
    from torpor.runtime.plan import Plan
    from torpor.runtime.service import Service

    Shapes = Mapping[str, Mapping[str, Shape]]  # by service and name

_FORMAT = 1


def check_services(find: Callable[[], Sequence[Service]], environ: Mapping[str, str]) -> list[Plan]:
    """The plans of services; prints what is worth a note. Where the environment has settings, they are held against the
    services as `torpor run` does before it opens anything. Raises ConfigurationError with every mistake."""
    from torpor.assembly import assemble, plans_of
    from torpor.runtime.settings import Settings, given_in
    from torpor.runtime.topology import topology_of

    problems: list[str] = []
    settings: Settings | None = None
    plans: list[Plan] = []
    given = given_in(environ)
    if given:
        print(f"note: settings are checked too, as `torpor run` would: {', '.join(given)} in the environment")
        with _gathering(problems):
            settings = Settings.read(environ)
    with _gathering(problems):
        services = find()
        plans = plans_of(services)
        for note in topology_of(plans).notes():
            print(f"note: {note}")
        problems += unguarded(plans)
        if settings is not None:
            assemble(services, settings)
    if problems:
        raise ConfigurationError(problems)
    return plans


@contextmanager
def _gathering(problems: list[str]) -> Iterator[None]:
    """Adds the mistakes that end it to others."""
    try:
        yield
    except ConfigurationError as error:
        problems += error.problems


def check_contracts(plans: Sequence[Plan], *, against: Path | None, write: Path | None) -> bool:
    """Compares the contracts of services with a file, prints what has changed, and writes them to a file; returns
    whether nothing breaks, or all that does has been accepted by writing it to the file it was compared with."""
    shapes = shapes_of(plans)
    found = [] if against is None else compared(shapes, against)
    breaking = sum(change.is_breaking for change in found)
    if found:
        print(report(found))
    if against is not None:
        print(f"{against}: {breaking or 'nothing'} breaking, of {len(found)} changes")
    if write is not None:
        write_shapes(shapes, write)
        print(f"{write}: {sum(map(len, shapes.values()))} contracts written")
    return not breaking or (write is not None and against == write)


def unguarded(plans: Sequence[Plan]) -> list[str]:
    """The routes of which nobody has said who may call them."""
    return [
        f"Handler {binding.handled.name!r} ({binding.handled.location}) answers {binding.method} {binding.path}, and "
        "does not say who may call it. Give it auth=, or public=True when anybody may; a service or a router may say "
        "it for all of theirs."
        for plan in plans
        for binding in plan.routes
        if not binding.access.is_said
    ] + [
        f"Handler {binding.handled.name!r} ({binding.handled.location}) takes WebSockets at {binding.path}, and does "
        "not say who may connect. Give it auth=, or public=True when anybody may."
        for plan in plans
        for binding in plan.sockets
        if not binding.access.is_said
    ]


def shapes_of(plans: Sequence[Plan]) -> dict[str, dict[str, Shape]]:
    """The contracts of services, by service and by the name of the class. Raises ConfigurationError."""
    found: dict[str, dict[str, Shape]] = {}
    problems = []
    for plan in sorted(plans, key=lambda plan: plan.name):
        handled = {binding.contract for binding in (*plan.subscribers, *plan.listeners)}
        handled.update(answerer.contract for answerer in plan.answerers)
        published = {*plan.published, *plan.asked}
        shapes = found.setdefault(plan.name, {})
        for contract in sorted(published | handled, key=lambda contract: contract.__name__):
            if contract.__name__ in shapes:
                problems.append(
                    f"Service {plan.name!r} has two contracts named {contract.__name__!r}, which one file cannot tell "
                    "apart. Rename one class; its type and topic stay as they are."
                )
            is_asked, is_answered = contract in published, contract in handled
            shapes[contract.__name__] = shape_of(contract, publishes=is_asked, handles=is_answered)
            if contract.__torpor_is_request__:
                answer = answer_shape(contract, publishes=is_answered, handles=is_asked)
                shapes[f"{contract.__name__} (answer)"] = answer
    if problems:
        raise ConfigurationError(problems)
    return found


def write_shapes(shapes: Shapes, file: Path) -> None:
    """Writes contracts to a file that is to be committed: sorted, a line for each thing that may change."""
    text = json.dumps({"format": _FORMAT, "services": shapes}, indent=2, sort_keys=True, ensure_ascii=False)
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([f"--write {file} cannot be written: {error.strerror}."]) from error


def compared(shapes: Shapes, file: Path) -> list[Change]:
    """What has changed since a file was written. Services that the file has and this check does not are left alone."""
    kept = read_shapes(file)
    found = []
    for service, now in shapes.items():
        found += changes(kept.get(service, {}), now, service)
    left_out = sorted(kept.keys() - shapes.keys())
    return found + [Change(service, "it is in the file, and was not checked") for service in left_out]


def read_shapes(file: Path) -> Shapes:
    """The contracts in a file. Raises ConfigurationError."""
    advice = f"Write it with: torpor check --write {file}"
    try:
        written: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"--against {file} cannot be read: {error.strerror}. {advice}"]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"--against {file} is not what --write writes: {error}. {advice}"]) from error
    if not isinstance(written, dict) or written.get("format") != _FORMAT or not _is_whole(written.get("services")):
        raise ConfigurationError([f"--against {file} is not what this version's --write writes. {advice}"])
    services: Shapes = written["services"]
    return services


def report(found: Sequence[Change]) -> str:
    """Changes as lines: what breaks first, each with what to do."""
    lines = []
    for change in sorted(found, key=lambda change: not change.is_breaking):
        lines.append(f"{'BREAKING' if change.is_breaking else 'fine    '} {change.place}: {change.what}.")
        if change.remedy:
            lines.append(f"         {change.remedy}")
    if any(change.is_breaking for change in found):
        lines.append("Accept it with --write when nothing is left that it breaks: no old message, no old listener.")
    return "\n".join(lines)


def _is_whole(services: Any) -> bool:
    from torpor.contract.shapes import Shape

    names = Shape.__annotations__.keys()
    return isinstance(services, dict) and all(
        isinstance(shapes, dict) and all(isinstance(shape, dict) and shape.keys() == names for shape in shapes.values())
        for shapes in services.values()
    )
