"""`python -m torpor.testing.simulation`: seeds on the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time

from torpor.testing.simulation.run import Report, simulate, simulate_all


def main() -> int:
    """Runs what the arguments ask for; returns 1 when an invariant broke."""
    options = _options()
    if options.seed is not None:
        report = simulate(options.seed, is_traced=True)
        _tell("\n".join(report.trace))
        return _conclude([report])
    failed, effects, interruptions, started = [], 0, 0, time.monotonic()
    for count, report in enumerate(simulate_all(range(options.start, options.start + options.seeds)), 1):
        effects += report.effects
        interruptions += report.interruptions
        if report.violations:
            failed.append(report)
            _tell(f"seed {report.seed}: {report.violations[0]!r}")
        if count % 1000 == 0 or count == options.seeds:
            seconds = time.monotonic() - started
            told = f"{effects} effects, {interruptions} interruptions, {len(failed)} seeds with a violation"
            _tell(f"{count} seeds in {seconds:.0f} s, {count / seconds:.0f} seeds/s: {told}")
    return _conclude(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--from", dest="start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run one seed, and print what happened")
    return parser.parse_args()


def _conclude(reports: list[Report]) -> int:
    failed = [report for report in reports if report.violations]
    for report in failed:
        _tell(f"seed {report.seed}:", *(f"  {violation!r}" for violation in report.violations))
        _tell(f"  replay: scripts/simulate --seed {report.seed}")
    if not failed:
        _tell("No invariant was broken.")
    return 1 if failed else 0


def _tell(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + os.linesep)


if __name__ == "__main__":
    sys.exit(main())
