"""The commands: each parses, calls one function, and prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torpor.cli.arguments import AppDir, Places, services_at
from torpor.cli.bench import bench
from torpor.cli.failures import USAGE, tell
from torpor.cli.operations import parked
from torpor.cli.outbox import outbox
from torpor.cli.topics import topics
from torpor.kernel.errors import ConfigurationError, TorporError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="torpor",
    help="Event-driven services that sleep at zero and wake at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(parked, name="parked")
app.add_typer(outbox, name="outbox")
app.add_typer(bench, name="bench")
app.add_typer(topics, name="topics")


def execute(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        app(args=list(arguments), prog_name="torpor")
    except TorporError as error:
        tell(error)
        return USAGE
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,  # noqa: FBT002
) -> None:
    """Event-driven services that sleep at zero and wake at once."""
    if version:
        _print_version()
        raise typer.Exit


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The service's name, and its package's.")],
    path: Annotated[Path, typer.Option(help="The folder to write it into.")] = Path(),
) -> None:
    """Write a service that runs at once, with its tests."""
    from torpor.cli.frames import shown_path
    from torpor.cli.scaffold import write_service

    for file in write_service(name, path):
        print(f"  {shown_path(str(file))}")
    folder = path / name
    print(f"\nRun it:   torpor dev {folder}\nTest it:  pytest {folder}")


@app.command()
def dev(
    paths: Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="Folders or files (here: .).")] = None,
    host: Annotated[str, typer.Option(envvar="TORPOR_HTTP_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="TORPOR_HTTP_PORT", help="The port to listen on.")] = 8000,
    data: Annotated[Path, typer.Option(help="Where the broker and the databases keep their files.")] = Path(".torpor"),
    reload: Annotated[bool, typer.Option(help="Start again when files change.")] = True,  # noqa: FBT002
) -> None:
    """Run one or many services on this machine, with a broker and databases of their own."""
    from torpor.cli.development import Development
    from torpor.cli.supervisor import develop

    plan = Development(paths or ["."], host=host, port=port, data=data, is_reloading=reload)
    raise typer.Exit(develop(plan))


@app.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
def run(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODULE:SERVICE...")] = None,
) -> None:
    """Serve in production: settings from the environment, no migration, no reload."""
    from torpor.cli.production import run as serve

    raise typer.Exit(serve(words or []))


@app.command("compile", context_settings={"ignore_unknown_options": True}, add_help_option=False)
def pack(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODULE:SERVICE...")] = None,
) -> None:
    """Pack what services import into one file, for sooner starts: when an image is built."""
    from torpor.cli import packing

    raise typer.Exit(packing.pack(words or []))


@app.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
def keeper(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODULE:SERVICE...")] = None,
) -> None:
    """Publish, fire timers and clean up for services, without their handlers."""
    from torpor.cli.production import keep

    raise typer.Exit(keep(words or []))


@app.command()
def check(
    places: Places = None,
    app_dir: AppDir = Path(),
    against: Annotated[Path | None, typer.Option(help="Compare the contracts with those that were written.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write the contracts to a file, to be committed.")] = None,
) -> None:
    """Find the mistakes of services without running them, and what a change of their contracts breaks.

    With any TORPOR_ setting in the environment the settings are checked too, as `torpor run` does before it opens
    anything; without one, the code alone.
    """
    from torpor.cli.check import check_services

    try:
        plans = check_services(lambda: services_at(places, app_dir), os.environ)
    except ConfigurationError as error:
        tell(error)
        raise typer.Exit(1) from error
    print(f"{_counted(len(plans), 'service')}, {_counted(sum(len(p.handlers) for p in plans), 'handler')}: all good")
    if against or write:
        from torpor.cli.check import check_contracts

        raise typer.Exit(0 if check_contracts(plans, against=against, write=write) else 1)


@app.command()
def key() -> None:
    """Make an API key for a client, and the hash of it for `ApiKeys`."""
    import hashlib
    import secrets

    made = secrets.token_urlsafe(32)
    print(f"key   {made}  (for the client; it is shown once)")
    print(f"hash  {hashlib.sha256(made.encode()).hexdigest()}  (for ApiKeys)")


@app.command()
def topology(
    places: Places = None,
    form: Annotated[str, typer.Option("--format", help="table, json or mermaid.")] = "table",
    app_dir: AppDir = Path(),
) -> None:
    """Show who publishes and who listens to what."""
    if form not in ("table", "json", "mermaid"):
        raise ConfigurationError([f"--format is {form!r}. Expected table, json or mermaid."])
    from torpor.assembly import plans_of
    from torpor.runtime.topology import topology_of

    found = topology_of(plans_of(services_at(places, app_dir)))
    if form == "json":
        import json

        print(json.dumps(found.to_dict(), indent=2))
    elif form == "mermaid":
        print(found.to_mermaid(), end="")
    else:
        from torpor.cli.report import print_topology

        print_topology(found)


@app.command()
def asyncapi(
    places: Places = None,
    form: Annotated[str | None, typer.Option("--format", help="json or yaml (by the name of --out).")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write, instead of printing.")] = None,
    title: Annotated[str | None, typer.Option(help="The document's title (the services' names).")] = None,
    app_dir: AppDir = Path(),
) -> None:
    """Write the AsyncAPI document of what services publish and listen to."""
    from torpor.cli.asyncapi import form_of, written

    text = written(services_at(places, app_dir), form_of(form, out), title)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


@app.command()
def migrate(places: Places = None, app_dir: AppDir = Path()) -> None:
    """Bring the databases of TORPOR_DATABASE_URL up to date."""
    from torpor.cli.databases import migrate as migrated

    for service, applied in migrated(services_at(places, app_dir)).items():
        print(f"{service}: {', '.join(applied) if applied else 'up to date'}")


@app.command()
def demo(
    url: Annotated[str, typer.Option(help="Where the shop runs.")] = "http://127.0.0.1:8000",
    orders: Annotated[int, typer.Option(help="How many orders to place.", min=1)] = 20,
) -> None:
    """Place orders with the shop, and show them move."""
    from torpor.cli.demo import demo as place_orders

    raise typer.Exit(place_orders(url, orders))


@app.command()
def version() -> None:
    """Print the version."""
    _print_version()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _print_version() -> None:
    from torpor import __version__

    print(f"torpor {__version__} (Python {sys.version.partition(' ')[0]})")
