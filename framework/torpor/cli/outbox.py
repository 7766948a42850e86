"""`torpor outbox`: how the outbox logs stand, and publishing again what a broker has lost."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torpor.cli.databases import find_databases, with_stores
from torpor.cli.moments import aged, parse, shown
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.lease import KEEPER
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.ports.leases import Holding
    from torpor.ports.outbox import LogState
    from torpor.ports.store import Store

    Stores = Mapping[str, Store]
    Counts = dict[str, Mapping[str, int]]

outbox = typer.Typer(
    help="See how the outbox logs stand; publish again what a broker has lost.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Option(help="Where `torpor dev` keeps its databases, unless TORPOR_DATABASE_URL is set.")]
Services = Annotated[list[str] | None, typer.Option("--service", help="Only this service's; may be repeated.")]
_DATA = Path(".torpor")


@outbox.command()
def status(
    service: Services = None,
    is_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,  # noqa: FBT002
    data: Data = _DATA,
) -> None:
    """Show what waits, what is kept, how far the cursors are, and who is the keeper."""
    found = with_stores(find_databases(service, data), _found)
    window = Settings.read(os.environ).replay_seconds
    if is_json:
        print(json.dumps([_object(*one, window) for one in found], indent=2))
        return
    from torpor.cli.report import print_logs

    print_logs((name, _cells(state, keeper)) for name, state, keeper in found)
    print(f"What was published is kept for {aged(window)} (TORPOR_REPLAY_SECONDS).")


@outbox.command()
def replay(
    since: Annotated[str, typer.Option(help="From a time on, such as 2026-11-21T09:30, or for the last 30m, 2h.")],
    topic: Annotated[str | None, typer.Option(help="Only the messages of one topic.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, and leave it at that.")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002
    service: Services = None,
    data: Data = _DATA,
) -> None:
    """Publish again, in order, what was published since a time."""
    at = parse("--since", since)
    databases = find_databases(service, data)
    counts = with_stores(databases, lambda stores: _counted(stores, at, topic))
    total = sum(count for topics in counts.values() for count in topics.values())
    for name, topics in counts.items():
        for of, count in sorted(topics.items()):
            print(f"{count:>9,}  {name}: {of}")
    if not total:
        print(f"Nothing was published since {shown(at)}{'' if topic is None else f' to {topic}'}.")
        return
    if dry_run:
        print(f"{total:,} would be published again.")
        return
    if not yes:
        typer.confirm(f"Publish {total:,} again?", abort=True)
    with_stores(databases, lambda stores: _replayed(stores, [name for name in counts if counts[name]], at, topic))
    print(f"{total:,} to be published again, as soon as a keeper or a service runs. See: torpor outbox status")


async def _found(stores: Stores) -> list[tuple[str, LogState, Holding | None]]:
    return [
        (name, await store.outbox.state(), await store.leases.find(KEEPER)) for name, store in sorted(stores.items())
    ]


async def _counted(stores: Stores, since: float, topic: str | None) -> Counts:
    """What each service would publish again. Raises ConfigurationError when it may not be there any more."""
    window = Settings.read(os.environ).replay_seconds
    problems = []
    counts: Counts = {}
    for name, store in sorted(stores.items()):
        kept_since = (await store.outbox.state()).kept_since
        oldest = min(time.time() - window, time.time() if kept_since is None else kept_since)
        if since < oldest:
            problems.append(
                f"--since is {shown(since)}, and {name} keeps what was published since {shown(oldest)} alone. "
                "Give that or a later time. TORPOR_REPLAY_SECONDS says how long it is kept."
            )
        counts[name] = await store.outbox.published_since(since, topic)
    if problems:
        raise ConfigurationError(problems)
    return counts


async def _replayed(stores: Stores, names: Sequence[str], since: float, topic: str | None) -> None:
    for name in names:
        await stores[name].outbox.replay(since, topic)


def _cells(state: LogState, keeper: Holding | None) -> list[str]:
    now = time.time()
    cursors = sorted(state.cursors.values())
    return [
        f"{state.waiting:,}",
        "" if state.waiting_since is None else aged(now - state.waiting_since),
        f"{state.kept:,}",
        "" if state.kept_since is None else shown(state.kept_since),
        str(cursors[-1]) if len(cursors) == 1 else f"{cursors[0]} … {cursors[-1]}" if cursors else "",
        "nobody" if keeper is None or keeper.holder is None else _place(keeper.holder),
        "" if keeper is None else str(keeper.epoch),
    ]


def _object(name: str, state: LogState, keeper: Holding | None, window: float) -> dict[str, Any]:
    return {
        "service": name,
        "waiting": state.waiting,
        "waiting_since": state.waiting_since,
        "kept": state.kept,
        "kept_since": state.kept_since,
        "kept_for": window,
        "cursors": {str(shard): position for shard, position in sorted(state.cursors.items())},
        "keeper": None if keeper is None or keeper.holder is None else keeper.holder,
        "epoch": None if keeper is None else keeper.epoch,
    }


def _place(holder: str) -> str:
    """The machine and the process of a holder."""
    return holder.rpartition("/")[0] or holder
