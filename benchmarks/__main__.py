"""Runs the benchmarks: `python -m benchmarks [--list] [name …]`. Each is a module with a `run() -> Report`."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import pkgutil
import platform
import signal
import sys
import time
from typing import TYPE_CHECKING

import benchmarks
from benchmarks.record import Record
from benchmarks.report import bars_table
from benchmarks.servers import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


def found() -> Mapping[str, ModuleType]:
    """The benchmarks of this folder, by name."""
    names = (module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def subject(module: ModuleType) -> str:
    """The first line of a module's docstring."""
    return (module.__doc__ or "").strip().partition("\n")[0]


def main() -> None:
    """Lists or runs."""
    known = found()
    parser = argparse.ArgumentParser(prog="scripts/bench", description=benchmarks.__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(known)}; all when none is named")
    parser.add_argument("--list", action="store_true", help="tell what there is, and run nothing")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no benchmark is called {', '.join(unknown)}. There are: {', '.join(known)}")
    if options.list:
        for name, module in known.items():
            print(f"{name}: {subject(module)}")
        return
    if sys.flags.dont_write_bytecode:
        parser.error("PYTHONDONTWRITEBYTECODE is set, which falsifies every start. Run scripts/bench, which unsets it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no server is left behind
    record = Record()
    for name in options.names or known:
        keep(record, name, known[name])


def keep(record: Record, name: str, module: ModuleType) -> None:
    """Runs one benchmark, tells what it found, and keeps it."""
    print(f"\n## {name}\n\n{subject(module)}\n", flush=True)
    began = time.perf_counter()
    try:
        report = module.run()
    except Unavailable as error:
        print(f"Left out: {error}.", flush=True)
        return
    seconds = time.perf_counter() - began
    machine = (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {seconds:.0f} s, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{report.text}\n\n{bars_table(report.bars) if report.bars else ''}\n\n{machine}", flush=True)
    record.keep(name, about=subject(module), machine=machine, report=report)


if __name__ == "__main__":
    main()
