"""Paths with parameters in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

IN_PATH = re.compile(r"{([A-Za-z_]\w*)(:path)?}")


class Paths:
    """The paths of one socket, and the parameters in them."""

    __slots__ = ("_adapters", "_pattern", "hints")

    def __init__(self, path: str, hints: Mapping[str, Any]) -> None:
        self.hints = hints
        self._adapters = {name: TypeAdapter[Any](hint) for name, hint in hints.items()}
        pattern, at = "", 0
        for found in IN_PATH.finditer(path):
            part = ".+" if found[2] else "[^/]+"
            pattern += f"{re.escape(path[at : found.start()])}(?P<{found[1]}>{part})"
            at = found.end()
        self._pattern = re.compile(pattern + re.escape(path[at:]))

    def match(self, path: str) -> dict[str, Any] | None:
        """The parameters in a path, or None when it is another, or one of them does not fit."""
        found = self._pattern.fullmatch(path)
        if found is None:
            return None
        try:
            return {name: self._adapters[name].validate_python(text) for name, text in found.groupdict().items()}
        except ValidationError:
            return None
