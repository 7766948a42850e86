"""The Python sources as trees: what the tests of this folder count and compare."""

from __future__ import annotations

import ast
import builtins
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = ROOT / "framework"
SERVICES = ROOT / "services"
TESTS = ROOT / "tests"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """One file, parsed. `module` is the name that an import would use."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path = path
        parts = path.relative_to(base).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.module = ".".join(parts[:-1] if self.is_package else parts)
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text, str(path))

    def __repr__(self) -> str:
        return self.place

    @property
    def place(self) -> str:
        """The path as a reader of the repository knows it."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def is_test(self) -> bool:
        """Whether it holds tests, of the framework or of a service."""
        return "tests" in self.path.parts or self.path.name.startswith("test_")

    def functions(self) -> Iterator[tuple[str, Function, ast.ClassDef | None]]:
        """Every function with its dotted name and the class that it is a method of."""
        yield from _functions(self.tree, "", None)

    def classes(self) -> Iterator[ast.ClassDef]:
        """Every class, nested ones included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every imported module or name, as line and absolute dotted name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)

    @cached_property
    def names(self) -> dict[str, str]:
        """What a name at the top of the module stands for, as a dotted name."""
        found = {node.name: f"{self.module}.{node.name}" for node in self.classes()}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                found |= {a.asname or a.name: f"{self._origin(node)}.{a.name}" for a in node.names}
        return found

    def bases(self, node: ast.ClassDef) -> list[str]:
        """The dotted names of a class's bases; `Generic[T]` is `Generic`."""
        found = []
        for base in node.bases:
            written = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            head, _, rest = written.partition(".")
            known = self.names.get(head, f"builtins.{head}" if hasattr(builtins, head) else head)
            found.append(f"{known}.{rest}" if rest else known)
        return found

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        above = self.module.split(".")
        above = above[: len(above) - node.level + self.is_package]
        return ".".join([*above, *filter(None, [node.module])])


def _functions(
    node: ast.AST, prefix: str, owner: ast.ClassDef | None
) -> Iterator[tuple[str, Function, ast.ClassDef | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{prefix}{child.name}", child, owner
            yield from _functions(child, f"{prefix}{child.name}.", None)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.", child)
        else:
            yield from _functions(child, prefix, owner)


@cache
def sources(base: Path) -> tuple[Source, ...]:
    """Every Python file below a folder, in order of path."""
    return tuple(Source(path, base) for path in sorted(base.rglob("*.py")))


@cache
def code() -> tuple[Source, ...]:
    """The framework and the services."""
    return sources(FRAMEWORK) + sources(SERVICES)


@cache
def class_bases() -> dict[str, list[str]]:
    """The bases of every class of the framework and the services, all as dotted names."""
    return {f"{source.module}.{node.name}": source.bases(node) for source in code() for node in source.classes()}


def ancestors(name: str) -> set[str]:
    """All classes above a class, as far as our own sources tell."""
    found: set[str] = set()
    left = list(class_bases().get(name, []))
    while left:
        base = left.pop()
        if base not in found:
            found.add(base)
            left += class_bases().get(base, [])
    return found


def is_exception(name: str) -> bool:
    """Whether a built-in exception is above a class."""
    above = (getattr(builtins, base.removeprefix("builtins."), None) for base in ancestors(name))
    return any(isinstance(base, type) and issubclass(base, BaseException) for base in above)
