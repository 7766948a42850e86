"""Fails when a type checker could not know the type of something that `torpor` shows to its users.

Pyright's own verdict also counts attributes whose type follows from the assignment in `__init__`. Those have one
reading under mypy strict, so they are told as a number only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Prints each unknown type and the counts."""
    checker = Path(sys.executable).with_name("basedpyright")
    run = subprocess.run(
        [checker, "--verifytypes", "torpor", "--ignoreexternal", "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(run.stdout)["typeCompleteness"]
    if not report["pyTypedPath"]:
        sys.exit("pyright found no torpor with a py.typed: is .venv/bin first on PATH?")
    unknown = [symbol for symbol in report["symbols"] if not symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]]
    for symbol in unknown:
        print(f"{symbol['name']}: unknown type")
        for diagnostic in symbol["diagnostics"]:
            print(f"    {diagnostic['message']}")
    counts = report["exportedSymbolCounts"]
    print(f"{len(unknown)} unknown, {counts['withKnownType']} declared, {counts['withAmbiguousType']} inferred")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
