"""`torpor compile`, and a start from what it has packed."""

from __future__ import annotations

import importlib
import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torpor.cli.coldstart import ColdService
from torpor.cli.packed import MARK, PackedFinder, PackedLoader, install, key_of, place_of, services_in
from torpor.cli.packing import _bytes_of, _packed, _written
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = """
import asyncio
import inspect
from pathlib import Path

import pydantic
from torpor import Event, Service, Tx
from torpor.adapters.http import lean
from torpor.runtime import host

class Noted(Event, topic="noted", key="id"):
    id: str

notes = Service("notes", migrations={"0001_seen.sql": "CREATE TABLE seen (id TEXT PRIMARY KEY);"})

@notes.on(Noted)
async def note(event: Noted, tx: Tx) -> None:
    await tx.execute("INSERT INTO seen VALUES ($1)", event.id)

loaders = {type(module.__spec__.loader).__name__ for module in (asyncio, pydantic, asyncio.events, host, lean)}
told = f"{' '.join(loaders)} {inspect.getsource(asyncio.run)[:7]} {asyncio.__cached__[-4:]}"
Path(__file__).with_name("told").write_text(told)
"""
SETTINGS = {"TORPOR_DELIVERY": "push", "TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "memory://"}


@pytest.fixture
def word(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A service in a module of a name of its own. What is packed for it is removed."""
    (tmp_path / f"{request.node.originalname}.py").write_text(SERVICE)
    word = f"{request.node.originalname}:notes"
    yield word
    Path(place_of([word])).unlink(missing_ok=True)


def compiled(word: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return ended("compile", word, folder, **environ)


def ended(command: str, word: str, folder: Path, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a command has said, in a process of its own that keeps bytecode."""
    left_out = ("TORPOR_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    words = [sys.executable, "-m", "torpor.cli", *command.split(), word, "--app-dir", str(folder), *more]
    return subprocess.run(words, env={**kept, **environ}, capture_output=True, text=True, check=False)


def test_a_start_reads_what_was_packed(word: str, tmp_path: Path) -> None:
    """A service that was compiled starts from the pack, handles an event, and its modules have sources as ever; one
    that was not compiled starts from Python's own files."""
    service = ColdService(word, tmp_path, tmp_path / "data")
    service.migrate()
    service.start()
    assert (tmp_path / "told").read_text() == "SourceFileLoader def run .pyc"
    written = compiled(word, tmp_path, **SETTINGS)
    assert written.returncode == 0, written.stderr
    assert f"packed for {word}" in written.stdout
    service.start()
    assert (tmp_path / "told").read_text() == "PackedLoader def run .pyc"


def test_who_measures_is_told_of_the_pack(word: str, tmp_path: Path) -> None:
    """`torpor bench cold-start` says whether what it measures was read from a pack."""
    assert "not packed" in ended("bench cold-start", word, tmp_path, "--rounds", "1").stdout
    compiled(word, tmp_path, **SETTINGS)
    assert "read from its pack" in ended("bench cold-start", word, tmp_path, "--rounds", "1").stdout


@pytest.mark.parametrize(
    ("word", "environ", "told"),
    [
        ("absent.service:absent", SETTINGS, "absent"),
        ("no-word", SETTINGS, "MODULE:SERVICE"),
        (None, {}, "TORPOR_BROKER_URL is not set"),
    ],
)
def test_mistakes_are_told_as_by_run(
    word: str | None, environ: dict[str, str], told: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What `torpor run` would refuse is refused, without a traceback, and nothing is written."""
    (tmp_path / f"{request.node.originalname}.py").write_text(SERVICE)
    named = word or f"{request.node.originalname}:notes"
    refused = compiled(named, tmp_path, **environ)
    assert refused.returncode == 2
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not Path(place_of([named])).exists()


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in a folder that Python looks into last, imported once."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "packed_probe.py").write_text("number = 7\n")
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "path", [*sys.path[1:], str(root)])
    monkeypatch.delitem(sys.modules, "packed_probe", raising=False)
    importlib.import_module("packed_probe")
    return root


@pytest.fixture
def finder(probe: Path, tmp_path: Path) -> Iterator[PackedFinder]:
    """A finder on a pack that has the probe alone."""
    data = _bytes_of([str(probe)], _packed(["packed_probe", "os", "absent", "builtins"], [str(probe)]))
    place = tmp_path / "a.pack"
    place.write_bytes(data)
    _, roots, index = marshal.loads(data[int.from_bytes(data[-16:-8], "little") : -16])
    assert list(index) == ["packed_probe"]
    descriptor = os.open(place, os.O_RDONLY)
    yield PackedFinder(descriptor, index, roots)
    os.close(descriptor)


def test_a_module_is_loaded_from_the_pack_once(finder: PackedFinder, probe: Path) -> None:
    """The code is the pack's at the first loading, and the file's at the next."""
    spec = finder.find_spec("packed_probe")
    assert spec is not None
    assert isinstance(spec.loader, PackedLoader)
    assert spec.origin == str(probe / "packed_probe.py")
    (probe / "packed_probe.py").write_text("number = 800\n")
    for number in (7, 800):
        code = spec.loader.get_code("packed_probe")
        assert code is not None
        found: dict[str, int] = {}
        exec(code, found)
        assert found["number"] == number


def test_a_changed_module_is_not_taken_from_the_pack(finder: PackedFinder, probe: Path) -> None:
    """A file that has changed since is Python's own to find."""
    (probe / "packed_probe.py").write_text("number = 700\n")
    assert finder.find_spec("packed_probe") is None


def test_a_module_that_is_gone_is_not_taken_from_the_pack(finder: PackedFinder, probe: Path) -> None:
    """A file that is gone is nobody's to find."""
    (probe / "packed_probe.py").unlink()
    assert finder.find_spec("packed_probe") is None


def test_who_stands_before_is_not_passed_over(
    finder: PackedFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the same name in a folder that Python looks into before is the one that is imported."""
    (tmp_path / "packed_probe.py").write_text("number = 9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert finder.find_spec("packed_probe") is None


def test_another_path_leaves_all_to_python(finder: PackedFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Python no longer looks where the modules were found, nothing is taken from the pack."""
    monkeypatch.setattr(sys, "path", sys.path[:-1])
    assert finder.find_spec("packed_probe") is None


@pytest.mark.parametrize("kind", ["empty", "short", "noise", "cut", "beyond", "another interpreter", "another path"])
def test_a_pack_that_does_not_fit_is_passed_over(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the file holds, a start is as it is without one."""
    place = tmp_path / "a.pack"
    monkeypatch.setattr("torpor.cli.packed.place_of", lambda _: str(place))
    roots = sys.path[1:]
    whole = _bytes_of(roots, {})
    version, *rest = key_of(roots)
    codes = {
        "empty": b"",
        "short": b"1",
        "noise": bytes(range(256)) * 9,
        "cut": whole[:-9],
        "beyond": bytes(8) + b"\xff" * 7 + whole[-9:],
        "another interpreter": marshal.dumps(((f"{version}!", *rest), roots, {})) + bytes(8) + MARK,
        "another path": _bytes_of(["/absent"], {}),
    }
    place.write_bytes(codes[kind])
    before = list(sys.meta_path)
    install(["a:b"])
    assert sys.meta_path == before
    place.write_bytes(whole)
    monkeypatch.setattr(sys, "meta_path", list(before))
    install(["a:b"])
    assert [type(finder) for finder in sys.meta_path if finder not in before] == [PackedFinder]


def test_a_place_that_takes_no_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not write is told where, and when to do it."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("torpor.cli.packing.place_of", lambda _: str(tmp_path / "file" / "a.pack"))
    with pytest.raises(ConfigurationError, match=r"cannot be written to .*a\.pack: .* when the image is built"):
        _written(["a:b"], [], {})


def test_a_pack_is_of_its_services() -> None:
    """The services are found among the options, and others have another pack."""
    assert services_in(["a:b", "--port", "8000", "--host=::1", "c:d", "--app-dir", "x:y"]) == ["a:b", "c:d"]
    assert place_of(["a:b"]) != place_of(["a:b", "c:d"])
