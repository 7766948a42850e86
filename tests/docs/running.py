"""Runs the examples: those of a page as one module, those of a docstring among the names that it takes for granted."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import CodeType, ModuleType

    from tests.docs.pages import Block, Page


def write_files(page: Page, folder: Path) -> None:
    """Writes the files that a page shows in full: its blocks with a `title=`."""
    for block in page.blocks:
        if block.title:
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")


def run_page(page: Page, module: ModuleType, folder: Path) -> None:
    """Runs a page's Python blocks in order, in one module, beside the files that the page shows."""
    write_files(page, folder)
    for block in page.examples:
        module.__file__ = str(folder / (block.title or "page.py"))
        exec(compile(block.padded, repr(page), "exec", dont_inherit=True), vars(module))


def run_text(text: str, module: ModuleType, given: Mapping[str, Any], place: str) -> None:
    """Runs the text of one example, in which `async with` may stand at the top."""
    vars(module).update(given)
    code = compile(text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    asyncio.run(_awaited(code, vars(module)))


def run_as_tests(page: Page, folder: Path) -> str:
    """Runs a page's Python blocks as a module of tests, by pytest as a user would; returns what pytest said."""
    write_files(page, folder)
    file = folder / "test_page.py"
    file.write_text(_joined(page.examples), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", file.name]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    if run.returncode:
        raise AssertionError(f"{page}, as a module of tests:\n{run.stdout}{run.stderr}")
    return run.stdout


async def _awaited(code: CodeType, names: dict[str, Any]) -> None:
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


def _joined(blocks: Sequence[Block]) -> str:
    """The blocks as one text, each on the lines that it has in the page."""
    text = ""
    for block in blocks:
        text += "\n" * (block.line - 1 - text.count("\n")) + block.text
    return text
