"""What the tests of the command line share."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def kept_process() -> Iterator[None]:
    """Logging, the import path and the modules are as they were after each test."""
    root = logging.getLogger()
    handlers, level, path, modules = list(root.handlers), root.level, list(sys.path), set(sys.modules)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("found_"):
            del sys.modules[name]
