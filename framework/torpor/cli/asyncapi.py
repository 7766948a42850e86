"""What `torpor asyncapi` prints: a document as JSON, or as YAML that reads the same."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from torpor.assembly import asyncapi_of, plans_of
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torpor.runtime.service import Service

FORMS = ("json", "yaml")


def form_of(form: str | None, out: Path | None) -> str:
    """The form that is asked for, or that the file's name tells. Raises ConfigurationError."""
    if form is None:
        return "yaml" if out is not None and out.suffix in {".yaml", ".yml"} else "json"
    if form not in FORMS:
        raise ConfigurationError([f"--format is {form!r}. Expected {' or '.join(FORMS)}."])
    return form


def written(services: Sequence[Service], form: str, title: str | None = None) -> str:
    """The document of services, with the broker of the environment."""
    document = asyncapi_of(plans_of(services), Settings.read(os.environ), title)
    if form == "yaml":
        return "\n".join(_yaml(document, 0)) + "\n"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _yaml(node: Any, depth: int) -> Iterator[str]:
    """The lines of a mapping or a list, with scalars and names as JSON writes them, which is YAML too."""
    margin = "  " * depth
    pairs = [(f"{_scalar(key)}:", value) for key, value in node.items()] if isinstance(node, dict) else None
    for mark, value in pairs if pairs is not None else [("-", value) for value in node]:
        if isinstance(value, (dict, list)) and value:
            yield f"{margin}{mark}"
            yield from _yaml(value, depth + 1)
        else:
            yield f"{margin}{mark} {_scalar(value)}"


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
