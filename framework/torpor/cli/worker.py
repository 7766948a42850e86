"""The child of `torpor dev`: loads the services, migrates, serves, and never outlives its parent."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from torpor.cli.failures import USAGE, tell
from torpor.cli.lifeline import follow
from torpor.kernel.errors import TorporError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.assembly import Deployment
    from torpor.runtime.settings import Settings

FAILED = 1
NEVER_READY = 3


def work(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; returns 0 when it had been ready."""
    options = parser().parse_args(argv)
    follow(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then says when to stop
    gc.disable()
    from torpor.cli.logs import configure

    configure("INFO", "console")
    try:
        return 0 if _serve(options) else NEVER_READY
    except TorporError as error:
        tell(error)
        return USAGE
    except Exception as error:  # noqa: BLE001  # a lifespan may raise anything, and its author wants to see where
        from torpor.cli.frames import short_traceback

        print(short_traceback(error), file=sys.stderr, flush=True)
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The options that the parent gives."""
    made = argparse.ArgumentParser(prog="torpor serve-dev")
    made.add_argument("paths", nargs="+")
    made.add_argument("--parent", type=int, required=True)
    made.add_argument("--settings-fd", type=int, required=True, help="a pipe with the rest of the environment, as JSON")
    made.add_argument("--listener-fd", type=int, required=True, help="a socket that listens")
    made.add_argument("--since", type=float, required=True, help="when the parent began")
    made.add_argument("--again", action="store_true", help="the table has been shown before")
    return made


def _warn_of_open(deployment: Deployment) -> None:
    """Tells of routes that production will not serve."""
    from torpor.cli.check import unguarded

    if found := unguarded(deployment.plans):
        more = f" So do {len(found) - 1} more." if len(found) > 1 else ""
        logging.getLogger("torpor.dev").warning("%s%s `torpor run` will not serve this.", found[0], more)


def _serve(options: argparse.Namespace) -> bool:
    from torpor.assembly import assemble
    from torpor.cli.discovery import find_paths, load

    # Bytecode knows its source by size and second: a file changed twice within one would be served as it was before.
    sys.dont_write_bytecode = True
    services = load(find_paths(options.paths))
    settings = _settings(options.settings_fd)
    deployment = assemble(services, settings)
    _warn_of_open(deployment)

    def announce(deployment: Deployment, port: int) -> None:
        seconds = time.time() - options.since
        if options.again:
            count = sum(len(plan.handlers) for plan in deployment.plans)
            logging.getLogger("torpor.dev").info("ready again in %.1f s: %d handlers", seconds, count)
            return
        from torpor.cli.report import print_started

        print_started(deployment.plans, settings, port=port, seconds=seconds)

    from torpor.cli.serving import serve_in_development

    with socket.socket(fileno=options.listener_fd) as listener:
        return serve_in_development(deployment, settings, listener=listener, announce=announce)


def _settings(descriptor: int) -> Settings:
    """The environment's settings, completed by what the parent knows once the broker listens."""
    from torpor.cli.logs import configure
    from torpor.runtime.settings import Settings

    with os.fdopen(descriptor, encoding="utf-8") as pipe:
        given = json.load(pipe)
    settings = Settings.read({**os.environ, **given})
    configure(settings.log_level, settings.log_format)
    return settings
