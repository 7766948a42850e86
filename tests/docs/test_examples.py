"""Every Python example of the documentation runs, as it is written."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.architecture.sources import FRAMEWORK, sources
from tests.docs.cast import cast
from tests.docs.pages import Page, pages
from tests.docs.running import run_as_tests, run_page, run_text
from torpor import Service
from torpor.runtime.binding import bind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_NOT_RUN = 3
_EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


class Told:
    """An example in a docstring, with its module and place."""

    def __init__(self, module: str, place: str, text: str) -> None:
        self.module = module
        self.place = place
        self.text = text

    def __repr__(self) -> str:
        return self.place


def docstring_examples() -> Iterator[Told]:
    """The examples in the framework's docstrings."""
    for source in sources(FRAMEWORK):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                place = ".".join(filter(None, [source.module, getattr(node, "name", "")]))
                for text in _EXAMPLE.findall(ast.get_docstring(node) or ""):
                    yield Told(source.module, place, textwrap.dedent(text))


def names_around(module: str) -> dict[str, Any]:
    """The names of a docstring's own module, and of those beside it that share the start of its name."""
    package, _, last = module.rpartition(".")
    beside = [source.module for source in sources(FRAMEWORK) if source.module.startswith(f"{package}.{last}_")]
    names: dict[str, Any] = {}
    for name in (*beside, module):
        names |= vars(importlib.import_module(name))
    return names


@pytest.fixture
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An empty module that is known by its name, as pydantic wants it."""
    made = ModuleType(re.sub(r"\W", "_", f"example_{request.node.name}"))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.mark.parametrize("page", [page for page in pages() if page.examples], ids=repr)
def test_the_examples_of_a_page_run(page: Page, module: ModuleType, tmp_path: Path) -> None:
    """The Python blocks of a page run in order, in one module; a page of tests runs by pytest."""
    if any("def test_" in block.text for block in page.examples):
        assert " passed" in run_as_tests(page, tmp_path)
    else:
        run_page(page, module, tmp_path)


@pytest.mark.parametrize("told", list(docstring_examples()), ids=repr)
def test_the_example_of_a_docstring_runs(told: Told, module: ModuleType, tmp_path: Path) -> None:
    """The Python blocks of a docstring run, and what they declare can be bound."""
    given = cast(is_running=told.module.startswith("torpor.testing")) | names_around(told.module)
    given |= {"__name__": module.__name__, "__file__": str(tmp_path / "example.py")}
    run_text(told.text, module, given, told.place)
    for value in list(vars(module).values()):
        if isinstance(value, Service):
            bind(value)


def test_few_examples_are_not_run() -> None:
    """An example is left out only for a reason, and at most three are."""
    left_out = {repr(block): block.not_run for page in pages() for block in page.blocks if block.not_run}
    assert len(left_out) <= MOST_NOT_RUN, left_out
