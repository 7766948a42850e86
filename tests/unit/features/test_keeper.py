"""The keeper: one lease for relay, timers and cleanup, and hints to whoever holds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from torpor import ConfigurationError, Event, Service, Tx
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.store import MemoryStore
from torpor.assembly import assemble_keeper, duties_of, keeper_duties, plans_of
from torpor.kernel.message import Message
from torpor.runtime.context import Committed
from torpor.runtime.host import Host
from torpor.runtime.lease import KEEPER, Lease
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from torpor.kernel.errors import Rejected

DEADLINE = 10.0


class Sent(Event, topic="sent", key="key"):
    key: str


class Other(Event, topic="other", key="key"):
    key: str


service = Service("sender")


@service.post("/sent")
async def send(tx: Tx) -> None:
    tx.publish(Sent(key="k"))
    tx.publish(Other(key="k"))


class Slow(MemoryBroker):
    """A broker that takes its time to confirm."""

    seconds = 0.0
    clock: VirtualClock

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        refusals = await super().publish(messages)
        await self.clock.sleep(self.seconds)
        return refusals


class Processes:
    """Processes of one service on one database: each a host with the keeper's duties alone."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.hub = MemoryHub()
        self.store = MemoryStore(self.clock)
        self.hosts: list[Host] = []

    async def start(self, *, seconds: float = 0.0, window: float = 86_400.0) -> Host:
        """Starts another."""
        broker = Slow(self.hub)
        broker.seconds, broker.clock = seconds, self.clock
        (plan,) = plans_of([service])
        host = Host(plan, broker=broker, store=Kept(self.store), clock=self.clock, duties=keeper_duties(window))
        self.hosts.append(host)
        await host.start()
        await self.until(lambda: host.is_ready)
        return host

    async def commit(self, host: Host, *ids: str) -> None:
        """Commits messages in a process."""
        async with self.store.unit() as unit:
            await unit.append([Message("sent", b"{}", id=id, type="sent", key="k") for id in ids], [])
            await unit.commit()
        host.committed(Committed(len(ids)))

    def published(self) -> list[str]:
        """The ids on the wire."""
        return [message.id for message in self.hub.published]

    async def keeper(self) -> Host | None:
        """The process that holds the lease."""
        holding = await self.store.leases.find(KEEPER)
        by_holder = {host.duties[0].lease.holder: host for host in self.hosts}  # type: ignore[attr-defined]  # the relay
        return None if holding is None or holding.holder is None else by_holder[holding.holder]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a fact; time does not pass meanwhile."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110  # a fact tells no event
                await asyncio.sleep(0)


class Kept(MemoryStore):
    """A process's view of the tables of another store, which a stop leaves open."""

    def __init__(self, store: MemoryStore) -> None:
        self.__dict__.update(store.__dict__)

    async def stop(self) -> None:
        """The others go on."""


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """None yet."""
    processes = Processes()
    yield processes
    for host in processes.hosts:
        await host.stop(0.1)


async def test_of_several_processes_one_is_the_keeper(processes: Processes) -> None:
    """One holds the lease for all duties, and a clean stop gives it to another at once."""
    first, second = [await processes.start() for _ in range(2)]
    assert await processes.keeper() is first
    await first.stop()
    assert await processes.keeper() is None
    await processes.clock.advance(1)
    assert await processes.keeper() is second


async def test_the_lease_outlives_the_first_duty_that_ends(processes: Processes) -> None:
    """It is given up once, when the last duty that works under it has left."""
    host = await processes.start()
    lease = Lease()
    for _ in range(2):
        lease.join()
    await processes.clock.advance(10)
    await host.stop()
    assert await lease.hold(host) is not None
    await lease.leave(host)
    assert (await processes.store.leases.find(KEEPER)).holder == lease.holder  # type: ignore[union-attr]  # it is there
    await lease.leave(host)
    assert (await processes.store.leases.find(KEEPER)).holder is None  # type: ignore[union-attr]  # it is there


async def test_a_long_publish_does_not_lose_the_lease(processes: Processes) -> None:
    """While the relay waits for its broker the other duties renew the lease, so that nothing is published twice."""
    slow = await processes.start(seconds=20)
    standby = await processes.start()
    await processes.commit(slow, "1")
    await processes.clock.advance(60)

    assert await processes.keeper() is slow
    assert processes.published() == ["1"]
    assert standby.metrics.published == 0


async def test_a_standby_asks_for_the_lease_now_and_then(processes: Processes) -> None:
    """However often it is woken by its commits, it does not ask the database each time."""
    first, second = [await processes.start() for _ in range(2)]
    asked: list[str] = []
    acquire = processes.store.leases.acquire

    class Counting:
        release, find = processes.store.leases.release, processes.store.leases.find

        async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
            asked.append(holder)
            return await acquire(name, holder, seconds)

    second.store.leases = Counting()
    for number in range(100):
        await processes.commit(second, str(number))
        await processes.until(lambda: second.is_idle and first.is_idle)
    assert len(asked) <= 1


async def test_a_commit_elsewhere_wakes_the_keeper(processes: Processes) -> None:
    """The keeper publishes what another process has committed without waiting for its poll."""
    _, second = [await processes.start() for _ in range(2)]
    await processes.clock.advance(2)
    before = processes.clock.time()
    await processes.commit(second, "1")
    await processes.until(lambda: processes.published() == ["1"])
    assert processes.clock.time() == before


async def test_a_replay_reaches_a_running_relay(processes: Processes) -> None:
    """The relay notices that its epoch is over, and goes on from the cursors that were moved back, in order."""
    host = await processes.start()
    processes.hub.deduplicates = False
    await processes.commit(host, "1", "2", "3")
    await processes.until(lambda: host.is_idle)
    await processes.store.outbox.replay(0)
    await processes.commit(host, "4")
    await processes.clock.advance(3)

    assert processes.published()[:3] == ["1", "2", "3"]
    assert processes.published()[-4:] == ["1", "2", "3", "4"]
    assert (await processes.store.outbox.state()).waiting == 0


async def test_a_replay_of_a_topic_publishes_it_alone(processes: Processes) -> None:
    """The messages of other topics are passed over."""
    host = await processes.start()
    processes.hub.deduplicates = False
    async with processes.store.unit() as unit:
        await unit.append([Message(topic, b"{}", id=topic, type="y", key="k") for topic in ("sent", "other")], [])
        await unit.commit()
    host.committed(Committed(2))
    await processes.until(lambda: host.is_idle and len(processes.published()) == 2)
    await processes.store.outbox.replay(0, "other")
    await processes.clock.advance(3)

    assert processes.published().count("sent") == 1
    assert processes.published().count("other") >= 2


async def test_old_rows_are_cleaned_up(processes: Processes) -> None:
    """What was published is kept for the window, and then removed."""
    host = await processes.start(window=700)
    await processes.commit(host, "1")
    await processes.until(lambda: host.is_idle)
    await processes.clock.advance(610)
    assert (await processes.store.outbox.state()).kept == 1
    await processes.clock.advance(700)
    assert (await processes.store.outbox.state()).kept == 0


def test_a_service_has_the_duties_of_a_keeper_and_its_own() -> None:
    """Whatever a keeper does, a service does too when it holds the lease."""
    (plan,) = plans_of([service])
    names = [type(duty).__name__ for duty in keeper_duties()]
    assert [type(duty).__name__ for duty in duties_of(plan)][: len(names)] == names


def test_a_keeper_has_no_handlers() -> None:
    """It knows the topics of its services, consumes none of them, and serves no route."""
    settings = Settings.read({"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "memory://"})
    (host,) = assemble_keeper([service], settings).hosts
    assert host.plan.topics == ("other", "sent")
    assert not host.plan.handlers


def test_a_keeper_wants_a_database() -> None:
    """Without one there is nothing to keep, and the message says what to set."""
    with pytest.raises(ConfigurationError, match="TORPOR_DATABASE_URL"):
        assemble_keeper([service], Settings.read({"TORPOR_BROKER_URL": "memory://"}))
