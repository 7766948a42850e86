"""The servers that the chaos run needs. The wheels bring NATS and PostgreSQL, and Maven brings Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.run import Outcome, Plan, perform
from tests.chaos.stage import NoServer
from tests.integration.kafka_server import Absent
from tests.integration.postgres_server import find_binaries
from torpor.adapters.nats.embedded import find_server
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture(autouse=True)
def servers() -> None:
    """Skips where one is missing."""
    if find_binaries() is None:
        pytest.skip(str(NoServer.__doc__))
    try:
        find_server()
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture
def run() -> Callable[[Plan], Awaitable[Outcome]]:
    """Performs a plan, and skips where there is no Kafka for it."""

    async def performed(plan: Plan) -> Outcome:
        try:
            return await perform(plan)
        except Absent as error:
            pytest.skip(str(error))

    return performed
