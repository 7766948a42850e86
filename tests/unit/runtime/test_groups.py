"""What a host begins before it publishes: the groups of those that run together with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor import Event, Service, Tx
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.store import MemoryStore
from torpor.kernel.errors import BrokerUnavailable
from torpor.ports.consumer import Subscription
from torpor.runtime.binding import bind
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = Subscription("told", "others.hear")


class Told(Event, topic="told"):
    id: int


class Fickle(MemoryBroker):
    """A broker that goes away while groups begin, or refuses them."""

    def __init__(self, hub: MemoryHub, *, goes_away: bool) -> None:
        super().__init__(hub)
        self.hub = hub
        self.began: list[Subscription] = []
        self.tried = 0
        self._goes_away = goes_away

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        wanted = list(subscriptions)
        if wanted:
            self.tried += 1
            if not self._goes_away:
                raise BrokerUnavailable("not this one")
            self.hub.is_down = self.hub.is_down or self.tried == 1
        await super().declare(topics, wanted)
        self.began += wanted


async def started(broker: Fickle, clock: VirtualClock) -> Host:
    """A host that runs together with another service's group, a minute after its start."""
    service = Service("teller")

    @service.post("/tell")
    async def tell(tx: Tx) -> None:
        tx.publish(Told(id=1))

    host = Host(bind(service), broker=broker, store=MemoryStore(clock), clock=clock)
    host.groups = [GROUP]
    await host.start()
    await clock.advance(60)
    return host


def reason(host: Host) -> str:
    return str(host.health.reasons.get("broker"))


async def test_a_broker_that_goes_away_while_groups_begin_is_waited_for() -> None:
    """The host is not ready, and publishes nothing, until the groups have begun: their first event must not pass them
    by."""
    clock, hub = VirtualClock(), MemoryHub()
    broker = Fickle(hub, goes_away=True)
    host = await started(broker, clock)
    assert (host.is_ready, broker.began) == (False, [])
    assert "down" in reason(host)
    hub.is_down = False
    await clock.advance(60)
    assert (host.is_ready, broker.began) == (True, [GROUP])
    await host.stop(1)


async def test_a_group_that_is_refused_holds_up_nobody() -> None:
    """A broker that answers, and does not let a group begin, is not asked again: its own consumer tells why."""
    clock = VirtualClock()
    broker = Fickle(MemoryHub(), goes_away=False)
    host = await started(broker, clock)
    assert (host.is_ready, broker.tried, broker.began) == (True, 1, [])
    await host.stop(1)
