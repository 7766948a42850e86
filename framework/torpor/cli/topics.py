"""`torpor topics`: the broker's topics and groups beside what the services need of them."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from torpor.cli.arguments import AppDir, Places, services_at
from torpor.kernel.difference import unheeded
from torpor.kernel.errors import NotRunning
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from torpor.kernel.difference import Step
    from torpor.ports.topics import TopicAdmin
    from torpor.runtime.provision import Need

T = TypeVar("T")

topics = typer.Typer(
    help="Compare the broker's topics and groups with what the services need; make them so.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before messages are deleted.")]
_DIFFERS = 1
_IN_MEMORY = "The broker is in memory: there is nothing to do."


@topics.command()
def plan(places: Places = None, app_dir: AppDir = Path(), is_json: Json = False) -> None:  # noqa: FBT002
    """Show what differs; exit with 1 when something does."""
    deploy = _Deploy(places, app_dir)
    if deploy.powers is None:
        _tell_in_memory(is_json=is_json)
        return
    steps, ignored = deploy.compared(), unheeded(deploy.need.topics, deploy.powers)
    if is_json:
        told = {"broker": deploy.powers.broker, "steps": [step.to_dict() for step in steps], "unheeded": ignored}
        print(json.dumps(told, indent=2))
    else:
        _print(steps, ignored)
        print("See: torpor topics apply" if any(step.is_possible for step in steps) else _end(deploy.need, steps))
    raise typer.Exit(_DIFFERS if steps else 0)


@topics.command()
def apply(
    places: Places = None,
    app_dir: AppDir = Path(),
    is_json: Json = False,  # noqa: FBT002
    yes: Yes = False,  # noqa: FBT002
) -> None:
    """Make topics, change their settings and begin groups; exit with 1 when something still differs."""
    deploy = _Deploy(places, app_dir)
    if deploy.powers is None:
        _tell_in_memory(is_json=is_json)
        return
    if not yes and (deleting := [step for step in deploy.compared() if step.deletes]):
        from torpor.cli.report import print_steps

        print_steps(deleting, to_stderr=True)
        typer.confirm("Messages are deleted by that. Go on?", abort=True, err=True)
    done, impossible = deploy.provided()
    if is_json:
        told = {
            "broker": deploy.powers.broker,
            "done": [step.to_dict() for step in done],
            "impossible": [step.to_dict() for step in impossible],
        }
        print(json.dumps(told, indent=2))
    else:
        _print([*done, *impossible], unheeded(deploy.need.topics, deploy.powers))
        print(_end(deploy.need, impossible))
    raise typer.Exit(_DIFFERS if impossible else 0)


class _Deploy:
    """What the services need, and the way to the broker. `powers` is None when that is in memory."""

    def __init__(self, places: Sequence[str] | None, app_dir: Path) -> None:
        from torpor.assembly import open_topics, plans_of
        from torpor.runtime.provision import need_of

        plans = plans_of(services_at(places, app_dir))
        self._settings = settings = Settings.read(os.environ)
        parking = [f"{plan.name}.parked" for plan in plans if plan.subscribers and settings.database_url is None]
        self.need = need_of(plans, parking)
        admin = open_topics(settings)
        self.powers = None if admin is None else admin.powers

    def compared(self) -> list[Step]:
        """What differs."""
        from torpor.runtime.provision import compare

        return self._run(lambda admin: compare(admin, self.need))

    def provided(self) -> tuple[list[Step], list[Step]]:
        """What was done, and what cannot be done."""
        from torpor.runtime.provision import provide

        return self._run(lambda admin: provide(admin, self.need))

    def _run(self, work: Callable[[TopicAdmin], Awaitable[T]]) -> T:
        """Does some work on a connection of its own."""
        from torpor.assembly import open_topics

        async def run() -> T:
            admin = open_topics(self._settings)
            if admin is None:
                raise NotRunning(_IN_MEMORY)
            try:
                await admin.start()
                return await work(admin)
            finally:
                await admin.stop()

        return asyncio.run(run())


def _print(steps: Sequence[Step], ignored: Sequence[str]) -> None:
    from torpor.cli.report import print_steps

    if steps:
        print_steps(steps)
    for line in ignored:
        print(line)


def _end(need: Need, impossible: Sequence[Step]) -> str:
    if impossible:
        return f"{len(impossible)} cannot be done from here."
    return f"Topics: {len(need.topics)}, groups: {len(need.subscriptions)}, all as they are needed."


def _tell_in_memory(*, is_json: bool) -> None:
    print(json.dumps({"broker": "memory", "steps": [], "unheeded": []}, indent=2) if is_json else _IN_MEMORY)
