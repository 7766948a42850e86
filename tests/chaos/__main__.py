"""The command of scripts/chaos."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tests.chaos.broker import KINDS
from tests.chaos.report import as_markdown, as_text
from tests.chaos.run import Outcome, Plan, perform
from tests.chaos.weather import LONG

if TYPE_CHECKING:
    from collections.abc import Sequence

_A_SECOND = 140  # messages


def main(argv: Sequence[str]) -> int:
    """Runs the chaos; returns 1 when a promise was broken."""
    options = parser().parse_args(argv)
    seconds = options.minutes * 60
    plan = Plan(
        seconds=seconds,
        messages=options.messages or round(seconds * _A_SECOND),
        seed=options.seed,
        broker=options.broker,
        rates=LONG,
        mutant=options.mutant,
        replicas=dict(zip(("source", "sink", "tail"), map(int, options.replicas.split(",")), strict=True)),
        patience=options.patience,
        is_kept=options.keep,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(_until_signalled(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _tell("stopped, nothing left running")
        return 130
    _tell(as_text(outcome))
    if options.report:
        options.report.write_text(as_markdown(outcome))
    return 0 if outcome.verdict.is_good else 1


async def _until_signalled(plan: Plan) -> Outcome:
    running = asyncio.current_task()
    if running is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await perform(plan, _tell)


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """The options of scripts/chaos."""
    made = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    made.add_argument("--broker", choices=KINDS, default="nats", help="over which broker (nats)")
    made.add_argument("--minutes", type=float, default=2.0, help="how long messages and faults come (2)")
    made.add_argument("--messages", type=int, help=f"how many messages ({_A_SECOND} a second)")
    made.add_argument("--seed", type=int, default=1, help="chooses the faults and the keys (1)")
    made.add_argument("--replicas", default="2,2,2", help="of the source, the sink and the tail (2,2,2)")
    made.add_argument("--mutant", help="an old fault to put back; see tests/chaos/mutants.py")
    made.add_argument(
        "--patience", type=float, default=90.0, help="seconds after which what does not move is stuck (90)"
    )
    made.add_argument("--report", type=Path, metavar="FILE", help="write the table as Markdown")
    made.add_argument("--keep", action="store_true", help="keep the logs")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
