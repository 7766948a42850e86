"""Runs the benchmarks: `python -m benchmarks [--list] [name …]`. Each is a module with a `run() -> str` (Markdown)."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
from typing import TYPE_CHECKING

import benchmarks

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
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    for name in options.names or known:
        print(f"\n## {name}\n\n{subject(known[name])}\n\n{known[name].run()}", flush=True)


if __name__ == "__main__":
    main()
