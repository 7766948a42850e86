"""`torpor run`: its options, and what it needs from the environment."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torpor.cli.production import overridden, parser, prepare
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
from torpor import Event, Service, Tx

class Happened(Event, topic="things.happened"):
    number: int

things = Service("things")

@things.on(Happened)
async def note(event: Happened, tx: Tx) -> None: ...
"""


def test_options_are_parsed() -> None:
    """Several services, a folder and an address may be given."""
    options = parser().parse_args(["a.b:c", "d:e", "--app-dir", "src", "--host", "0.0.0.0", "--port", "80"])
    assert options.services == ["a.b:c", "d:e"]
    assert (options.app_dir, options.host, options.port) == ("src", "0.0.0.0", 80)


def test_no_service_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The usage is printed, and the exit code is 2."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([])
    assert ended.value.code == 2
    assert "MODULE:SERVICE" in capsys.readouterr().err


def test_the_command_line_goes_before_the_environment() -> None:
    """An address that is given replaces the environment's, and one that is not leaves it."""
    environ = {"TORPOR_HTTP_HOST": "::1", "TORPOR_HTTP_PORT": "1"}
    assert overridden(environ, host=None, port=2) == {"TORPOR_HTTP_HOST": "::1", "TORPOR_HTTP_PORT": "2"}


def test_what_the_environment_lacks_is_found_lacking(tmp_path: Path) -> None:
    """A missing broker and a missing database are two problems of one error; nothing is put in their place."""
    (tmp_path / "found_lacking.py").write_text(SERVICE)
    options = parser().parse_args(["found_lacking:things", "--app-dir", str(tmp_path)])
    with pytest.raises(ConfigurationError) as error:
        prepare(options, {})
    told = " ".join(error.value.problems)
    assert len(error.value.problems) == 2
    assert "TORPOR_BROKER_URL" in told
    assert "TORPOR_DATABASE_URL" in told


def test_the_serving_path_imports_no_typer_and_no_rich() -> None:
    """`torpor run` reaches its service without what only the other commands need."""
    code = """
import sys
from torpor.cli import main
main(["run", "nowhere:nothing"])
print(sorted({"typer", "rich", "click", "watchfiles"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
    assert "nowhere" in ended.stderr
