"""`torpor run` and `torpor keeper`: production. Settings come from the environment alone; nothing is made up, migrated
or reloaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError, TorporError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from torpor.assembly import Deployment
    from torpor.cli.door import Door
    from torpor.runtime.settings import Settings

_OPTIONS = ("--app-dir", "--host", "--port")


class Options:
    """What is given on the command line."""

    __slots__ = ("app_dir", "host", "port", "services")

    def __init__(
        self, services: Sequence[str], *, app_dir: str | None = None, host: str | None = None, port: str | None = None
    ) -> None:
        self.services = list(services)
        self.app_dir = app_dir or ""
        self.host = host
        self.port = None if port is None else int(port)


def run(argv: Sequence[str], door: Door | None = None) -> int:
    """Serves until a signal; returns the process's exit code."""
    return _serve(options_of(argv) or parser().parse_args(argv), door)


def keep(argv: Sequence[str], door: Door | None = None) -> int:
    """Does the keeper's duties until a signal; returns the process's exit code."""
    return _serve(options_of(argv) or keeper_parser().parse_args(argv), door, is_keeper=True)


def _serve(options: Options | argparse.Namespace, door: Door | None, *, is_keeper: bool = False) -> int:
    try:
        settings, deployment = prepare(options, os.environ, is_keeper=is_keeper)
        from torpor.cli.serving import serve

        serve(deployment, settings, door)
    except TorporError as error:
        from torpor.cli.failures import USAGE, tell

        tell(error)
        return USAGE
    return 0


def options_of(argv: Sequence[str]) -> Options | None:
    """The options, read by hand; None when they are not plain, so that argparse may tell what is wrong or asked."""
    services: list[str] = []
    given: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            services.append(word)
            continue
        name, mark, value = word.partition("=")
        if not mark:
            value = next(words, "")
        if name not in _OPTIONS or not value or value.startswith("-"):
            return None
        given[name.removeprefix("--").replace("-", "_")] = value
    if not services or not given.get("port", "0").isdecimal():
        return None
    return Options(services, **given)


def prepare(
    options: Options | argparse.Namespace, environ: Mapping[str, str], *, is_keeper: bool = False
) -> tuple[Settings, Deployment]:
    """Loads and binds the services and checks the settings; opens nothing. Raises ConfigurationError, also for
    routes of which nobody has said who may call them: those are not served."""
    from torpor.cli.logs import configure
    from torpor.runtime.settings import Settings

    settings = Settings.read(overridden(environ, host=options.host, port=options.port))
    configure(settings.log_level, settings.log_format)
    from torpor.assembly import assemble, assemble_keeper
    from torpor.cli.discovery import load, parse

    targets = [parse(word, options.app_dir) for word in options.services]
    if is_keeper:
        return settings, assemble_keeper(load(targets), settings)
    deployment = assemble(load(targets), settings)
    accesses = [binding.access for plan in deployment.plans for binding in plan.routes]
    accesses += [binding.access for plan in deployment.plans for binding in plan.sockets]
    if not all(access.is_said for access in accesses):
        from torpor.cli.check import unguarded

        raise ConfigurationError(unguarded(deployment.plans))
    return settings, deployment


def overridden(environ: Mapping[str, str], *, host: str | None, port: int | None) -> dict[str, str]:
    """The environment with the address of the command line, which goes before that of the environment."""
    given = {"TORPOR_HTTP_HOST": host, "TORPOR_HTTP_PORT": None if port is None else str(port)}
    return {**environ, **{name: value for name, value in given.items() if value is not None}}


def parser() -> argparse.ArgumentParser:
    """The options of `torpor run`."""
    return _parser("run", "Serves services in production: settings from the environment, no migration, no reload.")


def compile_parser() -> argparse.ArgumentParser:
    """The options of `torpor compile`."""
    return _parser(
        "compile",
        "Packs what services import when they start into one file, from which `torpor run` of the same services reads "
        "it sooner. For when an image is built, with the settings of the deployment; nothing is opened.",
    )


def keeper_parser() -> argparse.ArgumentParser:
    """The options of `torpor keeper`."""
    return _parser(
        "keeper",
        "Publishes, fires timers and cleans up for services' databases, without their handlers. Several may run, also "
        "beside the services: one works at a time, the others stand by.",
    )


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    import argparse

    made = argparse.ArgumentParser(
        prog=f"torpor {command}",
        description=description,
        epilog="Settings: TORPOR_BROKER_URL, TORPOR_DATABASE_URL, TORPOR_DELIVERY, TORPOR_HTTP_HOST, "
        "TORPOR_HTTP_PORT, TORPOR_HTTP_BODY_LIMIT, TORPOR_DRAIN_SECONDS, TORPOR_REPLAY_SECONDS, TORPOR_STUCK_SECONDS, "
        "TORPOR_LOG_LEVEL, "
        "TORPOR_LOG_FORMAT.",
    )
    made.add_argument("services", nargs="+", metavar="MODULE:SERVICE", help="such as orders.service:orders")
    made.add_argument("--app-dir", default="", help="where the modules are (the working directory)")
    made.add_argument("--host", help="the address to listen on (TORPOR_HTTP_HOST, or 127.0.0.1)")
    made.add_argument("--port", type=int, help="the port to listen on (TORPOR_HTTP_PORT, or 8000)")
    return made
