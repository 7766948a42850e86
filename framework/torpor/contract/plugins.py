"""Pydantic's plugins, looked for where distributions lie.

Before its first model pydantic asks `importlib.metadata` for them. That imports email, csv and zipfile, and reads of
every distribution: a tenth of a cold start, to find nothing almost everywhere.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import FileIO
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_METADATA = "importlib.metadata"
_LOADER = "pydantic.plugin._loader"
_GROUP = "pydantic"
_ENDINGS = (".dist-info", ".egg-info", ".egg")


def look_for_plugins_late() -> None:
    """Lets pydantic import what loads its plugins without `importlib.metadata`, which is imported when there may be a
    plugin. Does nothing where either is imported already, or pydantic keeps its loader elsewhere."""
    if _METADATA in sys.modules or _LOADER in sys.modules:
        return
    stand_in = ModuleType(_METADATA)
    stand_in.entry_points = _entry_points  # type: ignore[attr-defined]  # all that the loader asks for
    sys.modules[_METADATA] = stand_in
    try:
        with suppress(ImportError):
            __import__(_LOADER)
    finally:
        del sys.modules[_METADATA]


def _entry_points(**wanted: str) -> Iterable[Any]:
    if wanted == {"group": _GROUP} and not _may_have_plugins():
        return ()
    from importlib.metadata import entry_points

    return entry_points(**wanted)


def _may_have_plugins() -> bool:
    """Whether a distribution has an entry point of pydantic's group, or lies where this does not look."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    if [getattr(finder, "__name__", "") for finder in finders] != ["PathFinder"]:
        return True
    return any(_may_be_in(path or os.curdir) for path in dict.fromkeys(sys.path))


def _may_be_in(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if entry.name.lower().endswith(_ENDINGS)]
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a zip file
    return any(entry.name.lower().endswith(".egg") or _names_plugins(entry.path) for entry in found)


def _names_plugins(folder: str) -> bool:
    try:
        with FileIO(f"{folder}/entry_points.txt") as told:
            return b"[pydantic]" in told.read()
    except OSError:  # importlib.metadata passes over what it cannot read, too
        return False
