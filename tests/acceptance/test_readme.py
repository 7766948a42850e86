"""The README's first screen, followed as a newcomer would: its commands, its service, its requests."""

from __future__ import annotations

import itertools
import json
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.cli_process import Command, run
from tests.docs.pages import page_at
from tests.docs.running import write_files
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = page_at("README.md")
PORT = 8000  # what the README shows


class Request:
    """A `curl` of the README, and what it prints when that is shown."""

    def __init__(self, line: str, shown: str) -> None:
        words = shlex.split(line)
        options = dict(itertools.pairwise(words))
        self.url = urlsplit(next(word for word in words if word.startswith("http")))
        self.method = options.get("-X")
        self.body: Any = json.loads(options["-d"]) if "-d" in options else None
        self.shown: Any = json.loads(shown) if shown.strip() else None


def lines_of_consoles() -> list[str]:
    """The lines of the README's console blocks."""
    return [line for block in README.blocks if block.language == "console" for line in block.text.splitlines()]


def requests() -> list[Request]:
    """The README's requests, in order."""
    found = []
    lines = [*lines_of_consoles(), "$ "]
    for number, line in enumerate(lines):
        if line.startswith("$ curl "):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].startswith("$ "))
            found.append(Request(line.removeprefix("$ "), "\n".join(lines[number + 1 : end])))
    return found


@pytest.fixture(params=["as torpor new writes it", "as the README shows it"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder in which the README's first command has run; the second time with the README's own files."""
    first, _, second = next(line for line in lines_of_consoles() if "torpor new" in line).partition(" && ")
    assert [first.removeprefix("$ "), second] == [".venv/bin/torpor new hello", ".venv/bin/torpor dev hello"]
    made = run(tmp_path, "new", "hello")
    assert made.returncode == 0, made.stderr
    if "README" in request.param:
        write_files(README, tmp_path)
    return tmp_path


@pytest.fixture
def service(folder: Path) -> Iterator[Command]:
    """`torpor dev hello`, ready."""
    port = free_port()
    command = Command(folder, "dev", "hello", "--port", str(port), port=port)
    try:
        command.await_ready()
        yield command
    finally:
        command.kill()


def test_the_first_screen_is_true(service: Command) -> None:
    """The service comes up, says so as shown, and its requests are answered as shown."""
    service.await_output(f"1 service on http://127.0.0.1:{service.port} (Ctrl-C ends)")
    asked = requests()
    assert [request.method for request in asked] == ["POST", None]
    for request in asked:
        assert request.url.port == PORT
        if request.body is not None:
            answer = service.ask(request.url.path, request.body, method=request.method)
            assert answer is not None
            assert answer.status == 202, answer.body
        else:

            def is_as_shown(path: str = request.url.path, shown: Any = request.shown) -> bool:
                answer = service.ask(path)
                return answer is not None and answer.json == shown

            service.await_fact(is_as_shown, f"{request.url.path} is answered with {request.shown}")
