"""The commands of `torpor parked`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torpor.cli.databases import find_databases, with_stores
from torpor.cli.moments import parse
from torpor.cli.parked import (
    as_json,
    counted,
    described,
    described_as_json,
    discarded,
    edited,
    listed,
    picked,
    queued,
    redriven,
)
from torpor.cli.spread import spread
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.parked import STATES, ParkedQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.cli.databases import Database
    from torpor.cli.parked import Found
    from torpor.ports.store import Store

parked = typer.Typer(
    help="See the messages that were set aside; try them again, or give them up.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Option(help="Where `torpor dev` keeps its databases, unless TORPOR_DATABASE_URL is set.")]
Services = Annotated[list[str] | None, typer.Option("--service", help="Only this service's; may be repeated.")]
Numbers = Annotated[
    list[str] | None, typer.Argument(metavar="[NUMBER | SERVICE:NUMBER]...", help="As `torpor parked list` shows them.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, with attributes and data.")]
All = Annotated[bool, typer.Option("--all", help="All that are parked.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_DATA = Path(".torpor")
_LIMIT = 100
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Where:
    """What narrows the messages down."""

    binding: Annotated[str | None, typer.Option(help="Only those of one handler, such as orders.mark_paid.")] = None
    key: Annotated[str | None, typer.Option(help="Only those of one key.")] = None
    topic: Annotated[str | None, typer.Option(help="Only those of one topic.")] = None
    type: Annotated[str | None, typer.Option(help="Only those of one type.")] = None
    reason: Annotated[str | None, typer.Option(help="Only those whose reason contains this.")] = None
    state: Annotated[str | None, typer.Option(help=f"Only those that are {', '.join(STATES)}.")] = None
    since: Annotated[
        str | None, typer.Option(help="Only those parked since a time, or in the last 30s, 5m, 2h, 1d.")
    ] = None
    before: Annotated[str | None, typer.Option(help="Only those parked before a time, or longer ago than 2h.")] = None

    def query(self) -> ParkedQuery:
        """The query. Raises ConfigurationError when a word means nothing."""
        if self.state not in (None, *STATES):
            raise ConfigurationError([f"--state is {self.state!r}. Expected {', '.join(STATES)}."])
        since = None if self.since is None else parse("--since", self.since)
        before = None if self.before is None else parse("--before", self.before)
        return ParkedQuery(**{**asdict(self), "since": since, "before": before})


@dataclass(frozen=True, slots=True)
class Place:
    """The databases."""

    service: Services = None
    data: Data = _DATA

    def databases(self) -> list[Database]:
        """Those of the named services, or of all that can be found."""
        return find_databases(self.service, self.data)


@dataclass(frozen=True, slots=True)
class Change:
    """Another payload for one message."""

    payload: Annotated[
        str | None, typer.Option(metavar="FILE", help="Give the one message this payload first; - reads what is piped.")
    ] = None
    code: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Where the service's code is, to check the payload by (here: .)."),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Take a payload that does not fit.")] = False


@parked.command("list")
@spread
def list_parked(
    places: Annotated[list[str] | None, typer.Argument(metavar="[PATH | MODULE:SERVICE]...")] = None,
    where: Where = Where(),
    after: Annotated[str | None, typer.Option(help="The last message of the page before.")] = None,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1, max=_MOST)] = _LIMIT,
    is_json: Json = False,  # noqa: FBT002
    data: Data = _DATA,
) -> None:
    """List what is parked, in order."""
    databases, query = find_databases(_named(places), data), where.query()
    rows, total = with_stores(databases, lambda stores: listed(stores, query, after=after, limit=limit))
    if is_json:
        print(as_json(rows))
    elif rows:
        from torpor.cli.report import print_parked

        print_parked(rows)
        if len(rows) == limit < total:
            last, row = rows[-1]
            print(f"{len(rows):,} of {total:,}. The next come with --after {last}:{row.number}")
    else:
        kind = "Nothing is parked" if query == ParkedQuery() else "Nothing that is parked fits"
        print(f"{kind} ({', '.join(database.service for database in databases)}).")


@parked.command()
@spread
def show(
    number: Annotated[str, typer.Argument(metavar="NUMBER")],
    is_json: Json = False,  # noqa: FBT002
    place: Place = Place(),
) -> None:
    """Show one message: its reason, its attributes, its bytes, and what they were before it was edited."""
    (found,) = with_stores(place.databases(), lambda stores: picked(stores, [number]))
    print(described_as_json(found) if is_json else described(found))


@parked.command()
@spread
def redrive(
    numbers: Numbers = None,
    where: Where = Where(),
    is_all: All = False,  # noqa: FBT002
    change: Change = Change(),
    yes: Yes = False,  # noqa: FBT002
    place: Place = Place(),
) -> None:
    """Send messages through their handlers again, one of them with another payload if need be."""
    query = _chosen("redriven", numbers, where, is_all=is_all)
    databases = place.databases()
    if change.payload is not None and len(numbers or ()) != 1:
        raise ConfigurationError(["--payload is for one message. Give its NUMBER alone."])
    if query is None:
        _redrive_numbers(databases, numbers or [], change)
        return
    waiting = replace(query, state="waiting")
    behind = 0
    if query.state is None:
        behind = sum(with_stores(databases, lambda stores: counted(stores, waiting)).values())
    if not yes and not _agreed(databases, query, "Redrive", behind):
        return
    now = time.time()

    async def work(stores: Mapping[str, Store]) -> int:
        return sum([await store.parking.redrive(query, now) for store in stores.values()])

    count = with_stores(databases, work)
    follow = f" {behind:,} that wait behind another follow it." if behind else ""
    print(f"{count:,} to be tried again, as soon as their service runs.{follow}")


@parked.command()
@spread
def discard(
    numbers: Numbers = None,
    where: Where = Where(),
    is_all: All = False,  # noqa: FBT002
    yes: Yes = False,  # noqa: FBT002
    place: Place = Place(),
) -> None:
    """Give messages up for good; what waits behind them goes on."""
    query = _chosen("discarded", numbers, where, is_all=is_all)
    databases = place.databases()
    if query is None:
        found = with_stores(databases, lambda stores: picked(stores, numbers or []))
        if not yes:
            for name, inspection in found:
                print(f"{name}:{inspection.row.number} {inspection.row.binding}: {inspection.row.reason}")
            typer.confirm(f"Discard {len(found)} for good?", abort=True)
        count = with_stores(databases, lambda stores: discarded(stores, found))
    else:
        if not yes and not _agreed(databases, query, "Discard for good"):
            return

        async def work(stores: Mapping[str, Store]) -> int:
            return sum([await store.parking.discard(query) for store in stores.values()])

        count = with_stores(databases, work)
    print(f"{count:,} discarded.")


def _redrive_numbers(databases: Sequence[Database], numbers: Sequence[str], change: Change) -> None:
    found = with_stores(databases, lambda stores: picked(stores, numbers))
    data = None if change.payload is None else _checked(found[0], change)

    async def work(stores: Mapping[str, Store]) -> int:
        if data is not None:
            await edited(stores, found[0], data)
        return await redriven(stores, found)

    count = with_stores(databases, work)
    if data is not None:
        print(f"{found[0][0]}:{found[0][1].row.number} has its new payload.")
    notes = queued(found)
    for note in notes:
        print(note)
    if count:
        print(f"{count:,} to be tried again, as soon as their service runs.")
    elif not notes:
        print("Nothing to do: what was named is being handled right now.")
    if not count and data is None:
        raise typer.Exit(1)


def _checked(found: Found, change: Change) -> bytes:
    """The new payload, once it fits what the handler expects, or nobody can tell."""
    from torpor.cli.payloads import check_payload, payload_of

    service, inspection = found
    data = payload_of(change.payload or "")
    if not change.force and not check_payload(service, inspection.row, data, change.code):
        print(f"The payload is not checked: the code of {inspection.row.binding} is not here. Tell where with --code.")
    return data


def _chosen(done: str, numbers: Sequence[str] | None, where: Where, *, is_all: bool) -> ParkedQuery | None:
    """The query, or None for numbers. Raises ConfigurationError unless there is one choice."""
    query = where.query()
    if sum([bool(numbers), query != ParkedQuery(), is_all]) != 1:
        said = f"What is to be {done} is not clear."
        raise ConfigurationError([f"{said} Give NUMBERs, or conditions such as --key KEY or --reason TEXT, or --all."])
    return None if numbers else query


def _agreed(databases: Sequence[Database], query: ParkedQuery, verb: str, behind: int = 0) -> bool:
    """Whether the operator wants it, having seen how many; not asked when there are none."""
    counts = with_stores(databases, lambda stores: counted(stores, query))
    for binding, count in sorted(counts.items()):
        print(f"{count:>9,}  {binding}")
    total = sum(counts.values())
    if not total:
        print("Nothing that is parked fits.")
        return False
    rest = f" ({behind:,} of them wait behind another, and follow it)" if behind else ""
    typer.confirm(f"{verb} {total:,}{rest}?", abort=True)
    return True


def _named(places: Sequence[str] | None) -> list[str] | None:
    if not places:
        return None
    from torpor.cli.discovery import find, load

    return [service.name for service in load(find(places))]
