"""`torpor new`: the files it writes, and the names it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.cli.scaffold import PLACEHOLDER, write_service
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_service_has_its_files(tmp_path: Path) -> None:
    """Service, migration, tests and a README are written, and no other."""
    written = {str(file.relative_to(tmp_path)) for file in write_service("ledger", tmp_path)}
    assert written == {
        "ledger/README.md",
        "ledger/__init__.py",
        "ledger/migrations/0001_ledger.sql",
        "ledger/service.py",
        "ledger/tests/__init__.py",
        "ledger/tests/conftest.py",
        "ledger/tests/test_ledger.py",
    }


def test_the_name_stands_everywhere(tmp_path: Path) -> None:
    """Nothing of the template's own name is left, and the Python files compile."""
    for file in write_service("ledger", tmp_path):
        text = file.read_text()
        assert PLACEHOLDER not in text
        if file.suffix == ".py":
            compile(text, file.name, "exec")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Order-History", "'order_history'"), ("orderHistory", "'order_history'"), ("2fast", "'fast'"), ("class", "")],
)
def test_a_name_that_is_no_package_is_refused_with_a_better_one(tmp_path: Path, name: str, hint: str) -> None:
    """The message shows a name near it that would do, where there is one."""
    with pytest.raises(ConfigurationError, match="no name for a package") as error:
        write_service(name, tmp_path)
    assert hint in error.value.problems[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["email", "pydantic"])
def test_a_name_that_a_module_has_is_refused(tmp_path: Path, name: str) -> None:
    """A service named like a module of Python's or an installed one could not be imported."""
    with pytest.raises(ConfigurationError, match=f"{name}_service"):
        write_service(name, tmp_path)


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    """A second `torpor new` with the name is refused, and the first files stay."""
    write_service("ledger", tmp_path)
    (tmp_path / "ledger" / "service.py").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        write_service("ledger", tmp_path)
    assert (tmp_path / "ledger" / "service.py").read_text() == "mine"
