"""Secrets: named in code, read when they are needed, and shown nowhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError
from torpor.runtime.settings import find_url

if TYPE_CHECKING:
    from collections.abc import Mapping


class Secret:
    """A secret of the environment: a variable, or the file that the variable `<NAME>_FILE` names, as a mounted one is.

    ```python
    bank_token = Secret("BANK_TOKEN")
    ```

    Naming it reads nothing; `read` does, each time anew, so that a file that was changed is seen. No repr, no text and
    no error of it shows what it holds.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not name or name.endswith("_FILE"):
            raise ConfigurationError([f"Secret({name!r}): expected the name of a variable, without _FILE."])
        self.name = name

    def read(self, environ: Mapping[str, str] | None = None) -> str:
        """What it holds. Raises ConfigurationError when there is none."""
        found = find_url(os.environ if environ is None else environ, self.name)
        if found is None:
            raise ConfigurationError([f"The secret {self.name} is not there. Set {self.name}, or {self.name}_FILE."])
        return found

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"
