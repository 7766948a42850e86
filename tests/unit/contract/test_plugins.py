"""Pydantic's plugins are found as pydantic finds them, and cost nothing where there are none."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """
seen = []

class Plugin:
    def new_schema_validator(self, schema, schema_type, schema_type_path, schema_kind, config, plugin_settings):
        seen.append(schema_type_path.name)
        return None, None, None

plugin = Plugin()
"""
ENTRY = "[pydantic]\ntold = telling:plugin\n"
PROGRAM = """
import sys
{before}
from torpor import Event

class Placed(Event, topic="placed"):
    id: str

assert Placed(id="1").id == "1"
print("importlib.metadata" in sys.modules, ",".join(getattr(sys.modules.get("telling"), "seen", ())))
from importlib.metadata import entry_points, version
import importlib
assert version("pydantic") and importlib.metadata.version is version
assert entry_points.__module__ == "importlib.metadata" or entry_points.__module__.startswith("importlib_")
"""


def declared(*path: Path, before: str = "") -> tuple[str, str]:
    """Whether `importlib.metadata` was imported when a fresh process had declared an event, and what the plugin saw."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=os.sep)
    assert ended.returncode == 0, ended.stderr
    imported, _, seen = ended.stdout.strip().partition(" ")
    return imported, seen


def installed(folder: Path, entry_points: str) -> Path:
    """A folder in which a distribution with a plugin is installed."""
    (folder / "telling.py").write_text(PLUGIN)
    (folder / "telling-1.0.dist-info").mkdir()
    (folder / "telling-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: telling\nVersion: 1.0\n")
    (folder / "telling-1.0.dist-info" / "entry_points.txt").write_text(entry_points)
    return folder


def test_nothing_is_imported_where_no_distribution_names_a_plugin(tmp_path: Path) -> None:
    """Entry points of other groups are not pydantic's, and a folder that is not there has none."""
    assert declared(installed(tmp_path, "[pytest11]\ntold = telling:plugin\n"), tmp_path / "gone") == ("False", "")


def test_what_cannot_be_read_names_no_plugin(tmp_path: Path) -> None:
    """A distribution whose entry points are no file is passed over, and events are declared."""
    (tmp_path / "odd-1.0.dist-info" / "entry_points.txt").mkdir(parents=True)

    assert declared(tmp_path) == ("False", "")


def test_a_plugin_sees_events(tmp_path: Path) -> None:
    """One that a distribution names is loaded by pydantic before the first event is built."""
    imported, seen = declared(installed(tmp_path, ENTRY))

    assert imported == "True"
    assert "Placed" in seen


def test_a_plugin_in_a_zip_file_sees_events(tmp_path: Path) -> None:
    """What is not looked into is left to importlib.metadata."""
    (tmp_path / "folder").mkdir()
    folder = installed(tmp_path / "folder", ENTRY)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))

    imported, seen = declared(tmp_path / "all.zip")

    assert imported == "True"
    assert "Placed" in seen


def test_a_plugin_that_another_finder_knows_sees_events(tmp_path: Path) -> None:
    """Finders of others, which may know distributions, are asked by importlib.metadata."""
    before = f"""
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None

    @staticmethod
    def find_distributions(context=None):
        from importlib.metadata import Distribution
        from pathlib import Path
        yield Distribution.at(Path({str(tmp_path)!r}, "hidden", "telling-1.0.dist-info"))

sys.meta_path.append(Finder)
sys.path.append({str(tmp_path)!r} + "/hidden/code")
"""
    hidden = tmp_path / "hidden"
    (hidden / "code").mkdir(parents=True)
    installed(hidden, ENTRY)
    (hidden / "telling.py").rename(hidden / "code" / "telling.py")

    imported, seen = declared(before=before)

    assert imported == "True"
    assert "Placed" in seen


@pytest.mark.parametrize("first", ["import importlib.metadata", "import pydantic\nclass A(pydantic.BaseModel): x: int"])
def test_who_has_come_before_is_left_alone(tmp_path: Path, first: str) -> None:
    """Where metadata is imported already, or pydantic's loader, nothing is put in its place."""
    imported, seen = declared(installed(tmp_path, ENTRY), before=first)

    assert imported == "True"
    assert "Placed" in seen
