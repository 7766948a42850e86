"""The command line as a whole: what is printed, and which exit code tells how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import torpor
from torpor.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_the_version_is_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways to ask give the same answer."""
    assert main(words) == 0
    assert torpor.__version__ in capsys.readouterr().out


def test_a_mistake_is_told_plainly_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no traceback, only what is wrong and what to do."""
    assert main(["topology", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "There is no service in" in told
    assert "Traceback" not in told


def test_torpor_debug_shows_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`TORPOR_DEBUG=1` is for those who look for the mistake in Torpor."""
    monkeypatch.setenv("TORPOR_DEBUG", "1")
    assert main(["topology", str(tmp_path)]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_check_fails_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CI step can tell a mistake in a service from a wrong use of the command."""
    (tmp_path / "found_wrong.py").write_text(
        'from torpor import Service\nwrong = Service("wrong")\n\n@wrong.get("/x")\nasync def odd(tx: Nothing): ...\n'
    )
    assert main(["check", str(tmp_path / "found_wrong.py")]) == 1
    assert "problem" in capsys.readouterr().err


def test_check_counts_what_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A service without mistakes is counted with its handlers."""
    (tmp_path / "found_right.py").write_text(
        'from torpor import Service\nright = Service("right", public=True)\n\n'
        '@right.get("/x")\nasync def fine() -> str: return ""\n'
    )
    assert main(["check", str(tmp_path / "found_right.py")]) == 0
    assert capsys.readouterr().out == "1 service, 1 handler: all good\n"


def test_check_refuses_a_route_of_which_nobody_says_who_may_call_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A route is closed or open because somebody wanted it so."""
    (tmp_path / "found_open.py").write_text(
        'from torpor import Service\nopen = Service("open")\n\n@open.get("/x")\nasync def any() -> str: return ""\n'
    )
    assert main(["check", str(tmp_path / "found_open.py")]) == 1
    assert "public=True" in capsys.readouterr().err


def test_migrate_asks_for_the_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No database is made up."""
    monkeypatch.delenv("TORPOR_DATABASE_URL", raising=False)
    (tmp_path / "found_nowhere.py").write_text('from torpor import Service\nservice = Service("nowhere")\n')
    assert main(["migrate", str(tmp_path / "found_nowhere.py")]) == 2
    assert "TORPOR_DATABASE_URL is not set" in capsys.readouterr().err
