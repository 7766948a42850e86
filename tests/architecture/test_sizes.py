"""The limits of the house style that are numbers: files, functions, parameters, classes and ports."""

from __future__ import annotations

import ast
import datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.architecture.sources import FRAMEWORK, ancestors, class_bases, code, is_exception, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.architecture.sources import Function

LIMITS = {
    "lines of a file": 600,
    "lines of a function": 50,
    "parameters": 8,
    "classes above a class": 2,
    "public methods of a class": 12,
    "lines of a port": 80,
    "methods of a port": 7,
}


class Allowance(NamedTuple):
    """A place that may pass a limit: since when (an ISO date) and why."""

    limit: str
    place: str
    since: str
    why: str


MOST_ALLOWANCES = 5
ALLOWANCES: tuple[Allowance, ...] = (
    Allowance(
        "classes above a class",
        "framework/torpor/testing/simulation/services.py::Asked",
        since="2026-11-21",
        why="It is a user's request, as the services under simulation are a user's. What is above it is ours.",
    ),
    Allowance(
        "public methods of a class",
        "framework/torpor/testing/shop.py::TestShop",
        since="2026-11-21",
        why="Each is one thing that a test does to services; a second object to do it with would be a word more.",
    ),
)

# A subclass of these is a declaration of data, as a user's is, and may be as deep as it likes.
DECLARED = {"torpor.contract.event.Event", "torpor.contract.event.Command"}
# These say how a class is used, and are no step down.
WEIGHTLESS = {"typing.Protocol", "typing.Generic", "builtins.object"}


class Size(NamedTuple):
    """One counted thing."""

    limit: str
    place: str
    amount: int


def parameters(function: Function, owner: ast.ClassDef | None) -> int:
    """How many a caller may pass: `self` and `cls` are not counted, `*args` and `**kwargs` are one each."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    is_bound = owner is not None and "staticmethod" not in map(ast.unparse, function.decorator_list)
    return len(named) + len(starred) - is_bound


def public_methods(node: ast.ClassDef) -> int:
    """How many methods without an underscore a class defines. A property is no method, an overload none of its own."""
    methods = (child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
    return len({method.name for method in methods if not method.name.startswith("_") and not is_property(method)})


def is_property(method: Function) -> bool:
    """Whether a method is read, set or deleted as an attribute."""
    written = {ast.unparse(decorator) for decorator in method.decorator_list}
    return any("property" in text or text.endswith((".setter", ".deleter")) for text in written)


def depth(name: str) -> int:
    """How many classes stand above one in the longest line. Another package's class is one, whatever it rests on."""
    if name not in class_bases() or "typing.Protocol" in ancestors(name):
        return 0
    return max((1 + depth(base) for base in class_bases()[name] if not is_weightless(base)), default=0)


def is_weightless(base: str) -> bool:
    """Whether a base is none of those that make a hierarchy: Protocols above all."""
    return base in WEIGHTLESS or "typing.Protocol" in ancestors(base)


def file_sizes() -> Iterator[Size]:
    """Files, and the functions in them."""
    for source in code():
        yield Size("lines of a file", source.place, source.text.count("\n"))
        for name, function, owner in source.functions():
            place = f"{source.place}::{name}"
            yield Size("lines of a function", place, (function.end_lineno or 0) - function.lineno + 1)
            yield Size("parameters", place, parameters(function, owner))


def class_sizes() -> Iterator[Size]:
    """Classes, by their methods and by what is above them."""
    for source in code():
        for node in source.classes():
            place, name = f"{source.place}::{node.name}", f"{source.module}.{node.name}"
            yield Size("public methods of a class", place, public_methods(node))
            if not is_exception(name) and not ancestors(name) & DECLARED:
                yield Size("classes above a class", place, depth(name))


def port_sizes() -> Iterator[Size]:
    """Ports, which fit on a screen."""
    for source in sources(FRAMEWORK):
        if source.module.startswith("torpor.ports."):
            yield Size("lines of a port", source.place, source.text.count("\n"))
            for node in source.classes():
                yield Size("methods of a port", f"{source.place}::{node.name}", public_methods(node))


@cache
def excesses() -> tuple[Size, ...]:
    """All that passes its limit."""
    sizes = [*file_sizes(), *class_sizes(), *port_sizes()]
    return tuple(size for size in sizes if size.amount > LIMITS[size.limit])


@pytest.mark.parametrize("limit", LIMITS)
def test_nothing_passes_a_limit_without_an_allowance(limit: str) -> None:
    """Each number of the house style holds, but for the places that the list above names."""
    allowed = {(allowance.limit, allowance.place) for allowance in ALLOWANCES}
    found = [
        f"{size.place} has {size.amount} {limit}"
        for size in excesses()
        if size.limit == limit and (limit, size.place) not in allowed
    ]
    assert not found, f"At most {LIMITS[limit]} {limit} (STYLE: split it by idea, not by size):\n" + "\n".join(found)


def test_each_allowance_is_still_needed() -> None:
    """An allowance goes when its place keeps the limit again; each has a date in the past and a reason."""
    passed = {(size.limit, size.place) for size in excesses()}
    stale = [allowance for allowance in ALLOWANCES if (allowance.limit, allowance.place) not in passed]
    assert not stale, f"No longer needed, remove: {stale}"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    for allowance in ALLOWANCES:
        assert datetime.date.fromisoformat(allowance.since) <= today, allowance
        assert len(allowance.why) > 20, f"Tell why: {allowance}"


def test_there_are_few_allowances() -> None:
    """The list stays short enough that each entry is an exception."""
    assert len(ALLOWANCES) <= MOST_ALLOWANCES


def test_the_counting_itself() -> None:
    """Parameters and methods are counted as the house style means them."""
    tree = ast.parse(
        "class C:\n"
        "    def a(self, x, /, y, *rest, z=1, **more): ...\n"
        "    @staticmethod\n"
        "    def b(x): ...\n"
        "    @property\n"
        "    def c(self): ...\n"
        "    def _d(self): ...\n"
    )
    (node,) = tree.body
    assert isinstance(node, ast.ClassDef)
    counts = [parameters(child, node) for child in node.body if isinstance(child, ast.FunctionDef)]
    assert counts == [5, 1, 0, 0]
    assert public_methods(node) == 2
