"""`torpor run` and `torpor keeper`: production. Settings come from the environment alone; nothing is made up, migrated
or reloaded."""

from __future__ import annotations

import argparse
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

from torpor.cli.failures import USAGE, tell
from torpor.kernel.errors import TorporError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.assembly import Deployment
    from torpor.runtime.settings import Settings


def run(argv: Sequence[str]) -> int:
    """Serves until a signal; returns the process's exit code."""
    return _serve(parser(), argv)


def keep(argv: Sequence[str]) -> int:
    """Does the keeper's duties until a signal; returns the process's exit code."""
    return _serve(keeper_parser(), argv, is_keeper=True)


def _serve(words: argparse.ArgumentParser, argv: Sequence[str], *, is_keeper: bool = False) -> int:
    options = words.parse_args(argv)
    gc.disable()  # loading makes much that stays and little garbage
    try:
        settings, deployment = prepare(options, os.environ, is_keeper=is_keeper)
        from torpor.cli.serving import serve

        serve(deployment, settings)
    except TorporError as error:
        tell(error)
        return USAGE
    return 0


def prepare(
    options: argparse.Namespace, environ: Mapping[str, str], *, is_keeper: bool = False
) -> tuple[Settings, Deployment]:
    """Loads and binds the services and checks the settings; opens nothing."""
    from torpor.cli.logs import configure
    from torpor.runtime.settings import Settings

    settings = Settings.read(overridden(environ, host=options.host, port=options.port))
    configure(settings.log_level, settings.log_format)
    from torpor.assembly import assemble, assemble_keeper
    from torpor.cli.discovery import load, parse

    targets = [parse(word, options.app_dir) for word in options.services]
    return settings, (assemble_keeper if is_keeper else assemble)(load(targets), settings)


def overridden(environ: Mapping[str, str], *, host: str | None, port: int | None) -> dict[str, str]:
    """The environment with the address of the command line, which goes before that of the environment."""
    given = {"TORPOR_HTTP_HOST": host, "TORPOR_HTTP_PORT": None if port is None else str(port)}
    return {**environ, **{name: value for name, value in given.items() if value is not None}}


def parser() -> argparse.ArgumentParser:
    """The options of `torpor run`."""
    return _parser("run", "Serves services in production: settings from the environment, no migration, no reload.")


def keeper_parser() -> argparse.ArgumentParser:
    """The options of `torpor keeper`."""
    return _parser(
        "keeper",
        "Publishes, fires timers and cleans up for services' databases, without their handlers. Several may run, also "
        "beside the services: one works at a time, the others stand by.",
    )


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=f"torpor {command}",
        description=description,
        epilog="Settings: TORPOR_BROKER_URL, TORPOR_DATABASE_URL, TORPOR_HTTP_HOST, TORPOR_HTTP_PORT, "
        "TORPOR_HTTP_BODY_LIMIT, TORPOR_DRAIN_SECONDS, TORPOR_REPLAY_SECONDS, TORPOR_LOG_LEVEL, TORPOR_LOG_FORMAT.",
    )
    made.add_argument("services", nargs="+", metavar="MODULE:SERVICE", help="such as orders.service:orders")
    made.add_argument("--app-dir", type=Path, default=Path(), help="where the modules are (the working directory)")
    made.add_argument("--host", help="the address to listen on (TORPOR_HTTP_HOST, or 127.0.0.1)")
    made.add_argument("--port", type=int, help="the port to listen on (TORPOR_HTTP_PORT, or 8000)")
    return made
