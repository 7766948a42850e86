"""`python -m tests.fuzz [COUNT [SEED]]`: posts so many requests, in fresh services of 10,000 each."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter

from tests.fuzz.target import Broken, fuzz

EACH = 10_000


def main() -> int:
    """Fuzzes; returns the process's exit code."""
    count, seed = (*map(int, sys.argv[1:]), *(1_000_000, 1)[len(sys.argv) - 1 :])
    logging.disable(logging.CRITICAL)  # what is parked is logged
    statuses: Counter[int] = Counter()
    began = time.perf_counter()
    for start in range(0, count, EACH):
        try:
            statuses += asyncio.run(fuzz(seed + start // EACH, min(EACH, count - start)))
        except Broken as broken:
            sys.stderr.write(f"{broken}\n")
            return 1
        done = min(start + EACH, count)
        told = ", ".join(f"{status}: {many:,}" for status, many in sorted(statuses.items()))
        sys.stdout.write(f"{done:,} inputs in {time.perf_counter() - began:.0f} s: {told}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
