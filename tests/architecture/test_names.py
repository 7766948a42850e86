"""The rules of the house style about names, errors, tests and asserts."""

from __future__ import annotations

import ast
import re

from tests.architecture.sources import FRAMEWORK, SERVICES, TESTS, ancestors, class_bases, code, sources

VAGUE_MODULES = {"base", "common", "helpers", "manager", "misc", "utils"}
HUNGARIAN = re.compile(r"Abstract|I[A-Z][a-z]")
ROOT_ERROR = "torpor.kernel.errors.TorporError"
MOST_LEAVES = 15


def test_a_module_is_named_for_what_it_holds() -> None:
    """No module has a name that fits anything."""
    found = [source.place for source in code() if VAGUE_MODULES & set(source.module.split("."))]
    assert not found, f"Name them for the concept: {found}"


def test_a_class_does_not_say_that_it_is_abstract() -> None:
    """No class is called Abstract… or I…: a port is named for its role."""
    found = [
        f"{source.place}::{node.name}" for source in code() for node in source.classes() if HUNGARIAN.match(node.name)
    ]
    assert not found, f"Name them for their role: {found}"


def test_the_errors_are_few_and_in_one_place() -> None:
    """The root has at most 15 leaves, and every one of them is in kernel/errors.py."""
    errors = [name for name in class_bases() if ROOT_ERROR in ancestors(name)]
    parents = {base for bases in class_bases().values() for base in bases}
    leaves = [name for name in errors if name not in parents]
    assert len(leaves) <= MOST_LEAVES, leaves
    strays = [name for name in errors if name.startswith("torpor.") and not name.startswith("torpor.kernel.errors.")]
    assert not strays, f"Errors belong in kernel/errors.py: {strays}"


def test_every_test_states_its_behaviour() -> None:
    """Each test function has a docstring that is a sentence."""
    files = [source for source in (*sources(TESTS), *sources(SERVICES)) if source.is_test]
    tests = [
        (f"{source.place}::{name}", ast.get_docstring(function) or "")
        for source in files
        for name, function, _ in source.functions()
        if function.name.startswith("test_")
    ]
    silent = [place for place, sentence in tests if not sentence.rstrip().endswith((".", ".)"))]
    assert tests
    assert not silent, "Say in a sentence what holds, with its full stop:\n" + "\n".join(silent)


def test_the_framework_asserts_only_in_its_test_tools() -> None:
    """A check of what a user gave raises an error; `assert` is for torpor.testing."""
    found = [
        f"{source.place}:{node.lineno}"
        for source in sources(FRAMEWORK)
        if not source.module.startswith("torpor.testing")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assert)
    ]
    assert not found, f"Raise a TorporError instead: {found}"
