"""`torpor bench`: what a service costs on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from torpor.cli.arguments import AppDir  # noqa: TC001  # typer reads it
from torpor.cli.packed import opened
from torpor.kernel.errors import ConfigurationError

bench = typer.Typer(help="Measure a service on this machine.", no_args_is_help=True)

_LEAST = 500  # microseconds, of an import that is worth a line
_ROUNDS = 10


@bench.callback()
def measure() -> None:
    """Measure a service on this machine."""


@bench.command("cold-start")
def cold_start(
    services: Annotated[list[str], typer.Argument(metavar="MODULE:SERVICE...")],
    rounds: Annotated[int, typer.Option(help="How often each is started, in turn.", min=1)] = _ROUNDS,
    imports: Annotated[bool, typer.Option("--imports", help="Tell what is imported, and how long it takes.")] = False,  # noqa: FBT002
    event: Annotated[Path | None, typer.Option(help="A file with the event's payload (here: one made up).")] = None,
    app_dir: AppDir = Path(),
) -> None:
    """Start services in push mode, and tell how soon the first event is handled."""
    from torpor.cli.coldstart import ColdService, as_table, as_tree

    if sys.flags.dont_write_bytecode:
        raise ConfigurationError(
            ["PYTHONDONTWRITEBYTECODE is set: each start would compile anew. Unset it, and measure again."]
        )
    payload = None if event is None else _payload(event)
    with TemporaryDirectory() as folder:
        cold = {
            word: ColdService(word, app_dir, Path(folder) / str(place), payload)
            for place, word in enumerate(dict.fromkeys(services))
        }
        for service in cold.values():
            service.migrate()
            service.start()  # writes the bytecode, and warms the file cache
        turns = [{word: service.start() for word, service in cold.items()} for _ in range(rounds)]
        print(f"Medians of {rounds}, since exec; CPU and memory when the first event was handled and committed.\n")
        print(as_table({word: [turn[word] for turn in turns] for word in cold}))
        for word, service in cold.items():
            modules = service.imports()
            told = "read from its pack" if _has_pack(word) else "not packed: see `torpor compile`"
            print(f"\n{word}: {len(modules)} modules above the interpreter's own, {told}")
            if imports:
                print(as_tree(modules, _LEAST))


def _has_pack(word: str) -> bool:
    """Whether `torpor run` of the service reads a pack."""
    found = opened([word])
    if found is not None:
        os.close(found[0])
    return found is not None


def _payload(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"--event {file} cannot be read: {error.strerror}."]) from error
