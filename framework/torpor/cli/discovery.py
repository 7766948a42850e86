"""Finds services: in folders and files, or by MODULE:SERVICE. Nothing is imported before `load`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError, TorporError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

    from torpor.runtime.service import Service

ENTRY = "service.py"
_EXPECTED = (
    f"Expected a folder that has a {ENTRY}, a folder of such folders, or a Python file. "
    "To make a service: torpor new NAME"
)


class Target:
    """A module to import, where its root is, and which of its services is meant (all when `service` is None)."""

    __slots__ = ("file", "module", "root", "service")

    def __init__(self, module: str, root: str | Path, *, file: Path | None = None, service: str | None = None) -> None:
        self.module = module
        self.root = str(root)
        self.file = file
        self.service = service

    def __repr__(self) -> str:
        return f"<Target {self.module}{f':{self.service}' if self.service else ''} in {self.root}>"


def find(words: Sequence[str], *, app_dir: Path | None = None) -> list[Target]:
    """The targets that paths and MODULE:SERVICE words name. Every word that names none is told."""
    from pathlib import Path  # late: whoever runs a MODULE:SERVICE needs none

    targets: list[Target] = []
    problems: list[str] = []
    for word in words:
        try:
            targets.extend(_found(word, app_dir or Path.cwd()))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return targets


def find_paths(words: Sequence[str]) -> list[Target]:
    """The targets in folders and files alone."""
    from pathlib import Path

    problems = [f"{word!r} is no folder or file.{_near(Path(word))}" for word in words if not Path(word).exists()]
    if problems:
        raise ConfigurationError(problems)
    return find(words)


def load(targets: Sequence[Target]) -> list[Service]:
    """Imports the targets' modules; returns their services, each once. Every failure is told."""
    services: dict[int, Service] = {}
    problems: list[str] = []
    for target in targets:
        try:
            services.update({id(service): service for service in _loaded(target)})
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return list(services.values())


def _found(word: str, app_dir: Path) -> list[Target]:
    from pathlib import Path

    path = Path(word)
    if path.exists():
        return _in_path(path.resolve(), word)
    if word.endswith(".py") or os.sep in word or ":" not in word:
        near = _near(path)
        raise ConfigurationError([f"{word!r} is no folder or file, and no MODULE:SERVICE.{near} {_EXPECTED}"])
    return [parse(word, app_dir)]


def parse(word: str, app_dir: str | Path) -> Target:
    """The target of a MODULE:SERVICE word."""
    module, _, name = word.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigurationError(
            [f"{word!r} is not MODULE:SERVICE. Give a module and the variable in it, such as orders.service:orders."]
        )
    return Target(module, os.path.realpath(app_dir), service=name)


def _in_path(path: Path, word: str) -> list[Target]:
    if path.is_file():
        if path.suffix != ".py":
            raise ConfigurationError([f"{word!r} is no Python file. {_EXPECTED}"])
        return [_target_of(path)]
    if (path / ENTRY).is_file():
        return [_target_of(path / ENTRY)]
    entries = sorted(path.glob(f"*/{ENTRY}"))
    targets = [_target_of(entry) for entry in entries if not entry.parent.name.startswith(".")]
    if not targets:
        raise ConfigurationError([f"There is no service in {word!r} ({path}). {_EXPECTED}"])
    return targets


def _target_of(file: Path) -> Target:
    """The module that a file is, seen from the first folder above it that is no package."""
    from torpor.cli.frames import shown_path

    parts = [] if file.name == "__init__.py" else [file.stem]
    folder = file.parent
    if file.name == ENTRY:
        parts.insert(0, folder.name)
        folder = folder.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if not all(part.isidentifier() for part in parts):
        bad = next(part for part in parts if not part.isidentifier())
        raise ConfigurationError(
            [f"{shown_path(str(file))} cannot be imported: {bad!r} is no Python name. Rename it, with underscores."]
        )
    return Target(".".join(parts), folder, file=file)


def _loaded(target: Target) -> list[Service]:
    module = _imported(target)
    if target.service is not None:
        return [_picked(module, target)]
    found = _services_in(module)
    if not found:
        from torpor.cli.frames import shown_path

        place = shown_path(str(target.file))
        raise ConfigurationError([f"{place} makes no Service. Write one: {target.module.split('.')[0]} = Service(…)"])
    return list(found.values())


def _imported(target: Target) -> ModuleType:
    if target.root not in sys.path:
        sys.path.insert(0, target.root)
    elif target.module not in sys.modules:
        importlib.invalidate_caches()  # it may be newer than what is known of its folder
    try:
        module = importlib.import_module(target.module)
    except TorporError as error:
        raise ConfigurationError(_located(error)) from error
    except ModuleNotFoundError as error:
        raise ConfigurationError([_missing(error, target)]) from error
    except (Exception, SystemExit) as error:  # the user's module may raise anything, and all of it is told
        raise ConfigurationError([f"{target.module} cannot be imported:\n{_indented(error)}"]) from error
    if target.file is not None and os.path.realpath(module.__file__ or "") != str(target.file):
        raise ConfigurationError([_taken(target, module.__file__)])
    return module


def _missing(error: ModuleNotFoundError, target: Target) -> str:
    """Tells a wrong MODULE from a missing import inside the module."""
    name = error.name or ""
    if name != target.module and not target.module.startswith(f"{name}."):
        return f"{target.module} cannot be imported:\n{_indented(error)}"
    if target.file is not None:
        return _taken(target, getattr(sys.modules.get(target.module.partition(".")[0]), "__file__", None))
    parent, _, last = name.rpartition(".")
    known = _modules_in(target.root, *parent.split("."))
    return (
        f"There is no module {name!r} in {target.root} or installed.{did_you_mean(last, known)} "
        "Run from the folder that holds it, or name that folder with --app-dir."
    )


def _taken(target: Target, other: str | None) -> str:
    from torpor.cli.frames import shown_path

    name = target.module.partition(".")[0]
    return (
        f"{shown_path(str(target.file))} cannot be imported as {target.module}: the name {name!r} is taken by "
        f"{other or 'another module'}. Rename it."
    )


def _picked(module: ModuleType, target: Target) -> Service:
    from torpor.runtime.service import Service

    name = target.service or ""
    found = _services_in(module)
    value = getattr(module, name, None)
    if isinstance(value, Service):
        return value
    known = ", ".join(sorted(found)) or "none"
    if hasattr(module, name):
        raise ConfigurationError(
            [f"{target.module}:{name} is of type {type(value).__name__}, not a Service. Its services: {known}."]
        )
    raise ConfigurationError(
        [f"{target.module} has no {name!r}.{did_you_mean(name, found)} Its services: {known}."],
    )


def _services_in(module: ModuleType) -> dict[str, Service]:
    from torpor.runtime.service import Service

    return {name: value for name, value in vars(module).items() if isinstance(value, Service)}


def _located(error: TorporError) -> list[str]:
    """The problems of an error that a module raised while it was imported, with the line that raised it."""
    from torpor.cli.frames import shown_path, user_frames

    frames = user_frames(error)
    place = f"{shown_path(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""
    problems = error.problems if isinstance(error, ConfigurationError) else (str(error),)
    return [f"{place}{problem}" for problem in problems]


def _indented(error: BaseException) -> str:
    from torpor.cli.frames import short_traceback

    return "\n".join(f"     {line}" for line in short_traceback(error).splitlines())


def _near(path: Path) -> str:
    parent = path.parent
    return did_you_mean(path.name, [entry.name for entry in parent.iterdir()]) if parent.is_dir() else ""


def _modules_in(root: str, *names: str) -> list[str]:
    from pathlib import Path

    folder = Path(root, *names)
    if not folder.is_dir():
        return []
    packages = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name.isidentifier()]
    return packages + [file.stem for file in folder.glob("*.py")]
