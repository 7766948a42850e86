"""Discovery: which modules hold the services that a user names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from torpor.cli.discovery import find, find_paths, load, parse
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = 'from torpor import Service\n\n{name} = Service("{name}")\n'


@pytest.fixture
def name() -> str:
    """A name that no module has had before."""
    return f"found_{uuid4().hex[:12]}"


def package(folder: Path, name: str, text: str | None = None, *, file: str = "service.py") -> Path:
    """Writes a service's package."""
    (folder / name).mkdir(parents=True)
    (folder / name / file).write_text(SERVICE.format(name=name) if text is None else text)
    return folder / name


def problems_of(error: pytest.ExceptionInfo[ConfigurationError]) -> str:
    """The one problem that was told."""
    assert len(error.value.problems) == 1, error.value.problems
    return error.value.problems[0]


def test_a_folder_with_service_py_is_a_package(tmp_path: Path, name: str) -> None:
    """A package's folder gives its service module, seen from the folder's parent."""
    [target] = find_paths([str(package(tmp_path, name))])
    assert (target.module, target.root) == (f"{name}.service", str(tmp_path))


def test_a_package_in_packages_keeps_its_whole_name(tmp_path: Path, name: str) -> None:
    """The root is the first folder above that has no `__init__.py`."""
    folder = package(tmp_path / f"{name}_outer", name)
    (tmp_path / f"{name}_outer" / "__init__.py").touch()
    [target] = find_paths([str(folder)])
    assert (target.module, target.root) == (f"{name}_outer.{name}.service", str(tmp_path))


def test_a_folder_of_packages_gives_each_in_order_of_name(tmp_path: Path, name: str) -> None:
    """Folders without `service.py` and hidden ones are passed over."""
    package(tmp_path, f"{name}_b")
    package(tmp_path, f"{name}_a")
    package(tmp_path, ".hidden")
    package(tmp_path, "docs", file="readme.py")
    targets = find_paths([str(tmp_path)])
    assert [target.module for target in targets] == [f"{name}_a.service", f"{name}_b.service"]


def test_a_file_is_a_module(tmp_path: Path, name: str) -> None:
    """A Python file is imported by its own name."""
    (tmp_path / f"{name}.py").write_text(SERVICE.format(name="hello"))
    [service] = load(find_paths([str(tmp_path / f"{name}.py")]))
    assert service.name == "hello"


def test_the_working_directory_may_be_the_package(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` is as good as the folder's name."""
    monkeypatch.chdir(package(tmp_path, name))
    [target] = find_paths(["."])
    assert target.module == f"{name}.service"


def test_a_service_that_two_words_name_is_found_once(tmp_path: Path, name: str) -> None:
    """A path and a MODULE:SERVICE may mean the same service."""
    folder = package(tmp_path, name)
    services = load(find([str(folder), f"{name}.service:{name}"], app_dir=tmp_path))
    assert [service.name for service in services] == [name]


def test_a_folder_without_services_says_what_was_expected(tmp_path: Path) -> None:
    """The message names the folder, what a service looks like, and how to make one."""
    with pytest.raises(ConfigurationError) as error:
        find_paths([str(tmp_path)])
    told = problems_of(error)
    assert str(tmp_path) in told
    assert "service.py" in told
    assert "torpor new" in told


def test_a_wrong_path_is_told_with_its_neighbour(tmp_path: Path) -> None:
    """A misspelt folder gets a hint."""
    (tmp_path / "services").mkdir()
    with pytest.raises(ConfigurationError) as error:
        find([str(tmp_path / "servces")])
    assert "Did you mean 'services'?" in problems_of(error)


def test_every_wrong_path_is_told_together(tmp_path: Path) -> None:
    """Two mistakes are two problems of one error."""
    with pytest.raises(ConfigurationError) as error:
        find_paths([str(tmp_path / "one"), str(tmp_path / "two")])
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("word", ["orders", "orders:", ":orders", "or-ders:orders", "orders.service:a.b"])
def test_what_is_not_module_service_is_refused(word: str, tmp_path: Path) -> None:
    """A word without a module or without a variable is told with an example."""
    with pytest.raises(ConfigurationError) as error:
        parse(word, tmp_path)
    assert "orders.service:orders" in problems_of(error)


def test_a_misspelt_module_gets_a_hint(tmp_path: Path, name: str) -> None:
    """A module that is not there is told with the nearest one that is."""
    package(tmp_path, name)
    with pytest.raises(ConfigurationError) as error:
        load([parse(f"{name}x.service:{name}", tmp_path)])
    assert f"Did you mean '{name}'?" in problems_of(error)
    assert "--app-dir" in problems_of(error)


def test_a_misspelt_variable_gets_a_hint(tmp_path: Path, name: str) -> None:
    """A variable that is not there is told with the services that are."""
    package(tmp_path, name, SERVICE.format(name="orders"))
    with pytest.raises(ConfigurationError) as error:
        load([parse(f"{name}.service:order", tmp_path)])
    assert "Did you mean 'orders'?" in problems_of(error)


def test_a_variable_that_is_no_service_is_told_with_its_type(tmp_path: Path, name: str) -> None:
    """The message says what the variable is instead."""
    package(tmp_path, name, "orders = 1\n")
    with pytest.raises(ConfigurationError) as error:
        load([parse(f"{name}.service:orders", tmp_path)])
    assert "is of type int, not a Service" in problems_of(error)


def test_a_module_without_a_service_is_told(tmp_path: Path, name: str) -> None:
    """A `service.py` that makes no Service is a mistake, not an empty deployment."""
    with pytest.raises(ConfigurationError) as error:
        load(find_paths([str(package(tmp_path, name, "x = 1\n"))]))
    assert "makes no Service" in problems_of(error)


def test_a_syntax_error_shows_its_line_and_a_caret(tmp_path: Path, name: str) -> None:
    """The user sees the place, the line and the column."""
    with pytest.raises(ConfigurationError) as error:
        load(find_paths([str(package(tmp_path, name, "def broken(:\n"))]))
    told = problems_of(error)
    assert "service.py:1" in told
    assert "def broken(:" in told
    assert "^" in told


def test_an_import_that_fails_shows_the_users_last_line(tmp_path: Path, name: str) -> None:
    """The frame is the user's, not importlib's, and the error is named."""
    folder = package(tmp_path, name, f"from {name}.inner import value\n")
    (folder / "inner.py").write_text("value = 1 / 0\n")
    with pytest.raises(ConfigurationError) as error:
        load(find_paths([str(folder)]))
    told = problems_of(error)
    assert "inner.py:1" in told
    assert "value = 1 / 0" in told
    assert "ZeroDivisionError" in told
    assert "importlib" not in told


def test_a_missing_import_inside_a_module_is_the_modules_own_mistake(tmp_path: Path, name: str) -> None:
    """It is not taken for a wrong MODULE."""
    with pytest.raises(ConfigurationError) as error:
        load(find_paths([str(package(tmp_path, name, "import found_nowhere\n"))]))
    told = problems_of(error)
    assert "service.py:1" in told
    assert "found_nowhere" in told


def test_a_torpor_mistake_at_import_keeps_its_text_and_gets_its_line(tmp_path: Path, name: str) -> None:
    """A policy that refuses its arguments is told with the line that made it."""
    text = "from torpor import Retry\n\nretry = Retry(attempts=0)\n"
    with pytest.raises(ConfigurationError) as error:
        load(find_paths([str(package(tmp_path, name, text))]))
    told = problems_of(error)
    assert "service.py:3" in told
    assert "Give at least 1." in told


def test_a_package_named_like_another_module_is_told(tmp_path: Path) -> None:
    """A folder `json` cannot be imported beside Python's own, and the message says so."""
    with pytest.raises(ConfigurationError) as error:
        load(find_paths([str(package(tmp_path, "json", SERVICE.format(name="things")))]))
    assert "'json' is taken by" in problems_of(error)


def test_a_folder_that_is_no_python_name_is_told(tmp_path: Path) -> None:
    """A folder with a hyphen cannot be a package."""
    with pytest.raises(ConfigurationError) as error:
        find_paths([str(package(tmp_path, "order-book"))])
    assert "'order-book' is no Python name" in problems_of(error)
