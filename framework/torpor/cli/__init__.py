"""The `torpor` command. The serving paths are chosen by the first argument, before anything heavy is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        from torpor.cli.production import run

        return run(arguments[1:])
    if arguments[:1] == ["keeper"]:
        from torpor.cli.production import keep

        return keep(arguments[1:])
    if arguments[:1] == ["serve-dev"]:
        from torpor.cli.worker import work

        return work(arguments[1:])
    from torpor.cli.application import execute

    return execute(arguments)
