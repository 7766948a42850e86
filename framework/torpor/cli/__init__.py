"""The `torpor` command. The serving paths are chosen by the first argument, before anything heavy is imported."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` is imported after the port is open
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["run"], ["keeper"]):
        return _serve(arguments[0], arguments[1:])
    if arguments[:1] == ["compile"]:
        from torpor.cli.packing import pack

        return pack(arguments[1:])
    if arguments[:1] == ["serve-dev"]:
        from torpor.cli.worker import work

        return work(arguments[1:])
    from torpor.cli.application import execute

    return execute(arguments)


def _serve(command: str, argv: Sequence[str]) -> int:
    import gc
    import os

    from torpor.cli.door import open_door

    gc.disable()  # loading makes much that stays and little garbage
    door = open_door(argv, os.environ)
    from torpor.cli.packed import install

    install(argv)
    from torpor.cli.production import keep, run

    return run(argv, door) if command == "run" else keep(argv, door)
