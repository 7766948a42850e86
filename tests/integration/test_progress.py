"""A consumer that stands still on a real broker: its replica is not ready, the one that stands by is, and both are
again once it moves."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.integration.trouble import until
from torpor import Event, Service
from torpor.adapters.prometheus.exposition import render
from torpor.assembly import Deployment, assemble
from torpor.contract.codec import encode
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from torpor.runtime.host import Host

    Start = Callable[[Service], Awaitable[Deployment]]

STUCK_SECONDS = 2


class Asked(Event, topic=f"progress.{uuid4().hex}", key="key"):
    key: str


class Kit:
    """A replica whose handler waits until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.service = Service("kit")

        @self.service.on(Asked)
        async def handle(event: Asked) -> None:
            await self.may_go_on.wait()


@pytest.fixture(params=["nats", "kafka"])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Starts replicas on a real broker."""
    url: str = request.getfixturevalue("nats_server" if request.param == "nats" else "secured_kafka").url
    settings = Settings.read(
        {
            "TORPOR_BROKER_URL": url if request.param == "nats" else f"{url}?partitions=1&replication=1",
            "TORPOR_DATABASE_URL": "memory://",
            "TORPOR_STUCK_SECONDS": str(STUCK_SECONDS),
        }
    )
    deployments: list[Deployment] = []

    async def start(service: Service) -> Deployment:
        deployments.append(assemble([service], settings))
        await deployments[-1].start()
        await until(lambda: deployments[-1].hosts[0].is_ready, deployments[-1].hosts[0].status)
        return deployments[-1]

    yield start
    for deployment in deployments:
        await deployment.stop(5)


def lag_of(host: Host) -> float | None:
    """The metric."""
    found = re.search(rb'^torpor_lag{.*handler="kit.handle".*} (.*)$', render([host])[0], re.MULTILINE)
    return None if found is None else float(found[1])


async def test_the_replica_that_stands_still_is_not_ready_until_it_moves(start: Start) -> None:
    """The handler is named; the other replica has nothing to settle, is ready, and tells of the same lag."""
    kits = [Kit(), Kit()]
    hosts = [(await start(kit.service)).hosts[0] for kit in kits]
    events = [Asked(key=key) for key in "abc"]
    messages = [encode(event, id=str(uuid4()), key=None, attributes={"source": "test"}) for event in events]
    await hosts[0].broker.publish(messages)
    await until(lambda: any(not host.is_ready for host in hosts), lambda: [host.status() for host in hosts])
    stuck, other = hosts if not hosts[0].is_ready else reversed(hosts)
    told = stuck.status()["parts"]["watcher"]["detail"]
    assert told.startswith(f"kit.handle has settled nothing for more than {STUCK_SECONDS} s")
    assert other.is_ready
    await until(lambda: [lag_of(host) for host in hosts] == [3, 3], lambda: [lag_of(host) for host in hosts])

    for kit in kits:
        kit.may_go_on.set()
    await until(lambda: stuck.is_ready, stuck.status)
    await until(lambda: [lag_of(host) for host in hosts] == [0, 0], lambda: [lag_of(host) for host in hosts])
