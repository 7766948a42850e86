"""The commands of `torpor parked`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torpor.cli.databases import find_databases, with_stores
from torpor.cli.parked import as_json, described, discarded, listed, picked, redriven
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.cli.parked import Row
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
_DATA = Path(".torpor")
_LIMIT = 100
_ALL = 1_000_000


@parked.command("list")
def list_parked(
    places: Annotated[list[str] | None, typer.Argument(metavar="[PATH | MODULE:SERVICE]...")] = None,
    binding: Annotated[str | None, typer.Option(help="Only those of one handler, such as orders.mark_paid.")] = None,
    key: Annotated[str | None, typer.Option(help="Only those of one key.")] = None,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1)] = _LIMIT,
    is_json: Annotated[bool, typer.Option("--json", help="As JSON, with attributes and data.")] = False,  # noqa: FBT002
    data: Data = _DATA,
) -> None:
    """List what is parked, in order."""
    databases = find_databases(_named(places), data)
    rows = with_stores(databases, lambda stores: listed(stores, binding=binding, key=key, limit=limit))
    if is_json:
        print(as_json(rows))
    elif rows:
        from torpor.cli.report import print_parked

        print_parked(rows)
    else:
        print(f"Nothing is parked ({', '.join(database.service for database in databases)}).")


@parked.command()
def show(
    number: Annotated[str, typer.Argument(metavar="NUMBER")], service: Services = None, data: Data = _DATA
) -> None:
    """Show one message: its reason, its attributes, its bytes."""
    rows = with_stores(find_databases(service, data), lambda stores: picked(stores, [number]))
    print(described(rows[0]))


@parked.command()
def redrive(
    numbers: Numbers = None,
    key: Annotated[str | None, typer.Option(help="All of one key.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All that are parked.")] = False,  # noqa: FBT002
    service: Services = None,
    data: Data = _DATA,
) -> None:
    """Send messages through their handlers again."""
    if sum([bool(numbers), key is not None, is_all]) != 1:
        raise ConfigurationError(["What is to be redriven is not clear. Give NUMBERs, or --key KEY, or --all."])

    async def work(stores: Mapping[str, Store]) -> int:
        rows = await _chosen(stores, numbers, key)
        return await redriven(stores, rows)

    count = with_stores(find_databases(service, data), work)
    print(f"{count} to be tried again, as soon as their service runs.")


@parked.command()
def discard(
    numbers: Annotated[list[str], typer.Argument(metavar="NUMBER | SERVICE:NUMBER...")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002
    service: Services = None,
    data: Data = _DATA,
) -> None:
    """Give messages up for good; what waits behind them goes on."""
    databases = find_databases(service, data)
    rows = with_stores(databases, lambda stores: picked(stores, numbers))
    if not yes:
        for name, message in rows:
            print(f"{name}:{message.number} {message.binding}: {message.reason}")
        typer.confirm(f"Discard {len(rows)} for good?", abort=True)
    count = with_stores(databases, lambda stores: discarded(stores, rows))
    print(f"{count} discarded.")


async def _chosen(stores: Mapping[str, Store], numbers: Sequence[str] | None, key: str | None) -> list[Row]:
    if numbers:
        return await picked(stores, numbers)
    return await listed(stores, binding=None, key=key, limit=_ALL)


def _named(places: Sequence[str] | None) -> list[str] | None:
    if not places:
        return None
    from torpor.cli.discovery import find, load

    return [service.name for service in load(find(places))]
