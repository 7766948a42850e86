"""`torpor new`: writes a service that runs, with its test. The files are in `templates/`."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from torpor.kernel.errors import ConfigurationError

PLACEHOLDER = "newservice"
_SUFFIX = ".template"  # on Python files, which are no part of the framework
_TEMPLATE = Path(__file__).parent / "templates" / PLACEHOLDER
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def write_service(name: str, parent: Path) -> list[Path]:
    """Writes the package `name` into a folder; returns its files. Never overwrites."""
    folder = parent / name
    problem = _unfit(name) or _occupied(folder) or _taken(name)
    if problem is not None:
        raise ConfigurationError([problem])
    written = []
    for template in sorted(_TEMPLATE.rglob("*")):
        if template.is_file():
            file = folder / _filled(str(template.relative_to(_TEMPLATE)), name).removesuffix(_SUFFIX)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_filled(template.read_text("utf-8"), name), "utf-8")
            written.append(file)
    return written


def _filled(text: str, name: str) -> str:
    return text.replace(PLACEHOLDER, name)


def _unfit(name: str) -> str | None:
    if _NAME.fullmatch(name) and not keyword.iskeyword(name):
        return None
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    suggestion = re.sub(r"\W+", "_", words, flags=re.ASCII).strip("_").lower().lstrip("_0123456789")
    is_better = _NAME.fullmatch(suggestion) and not keyword.iskeyword(suggestion)
    hint = f" For example {suggestion!r}." if is_better else ""
    return f"{name!r} is no name for a package. Use lower-case letters, digits and _, with a letter first.{hint}"


def _occupied(folder: Path) -> str | None:
    if not folder.exists():
        return None
    return f"{folder} exists already. Choose another name, or another place with --path DIR."


def _taken(name: str) -> str | None:
    if name in sys.stdlib_module_names:
        return f"{name!r} is a module of Python's own. Choose another name, for example '{name}_service'."
    if importlib.util.find_spec(name) is not None:
        return f"{name!r} is an installed module already. Choose another name, for example '{name}_service'."
    return None
