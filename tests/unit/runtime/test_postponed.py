"""Duties that are made when they are needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.memory.clock import VirtualClock
from torpor.runtime.context import Committed, Health
from torpor.runtime.postponed import Postponed

if TYPE_CHECKING:
    from torpor.runtime.host import Host


class Duty:
    """Notes what is asked of it."""

    is_idle = True

    def __init__(self) -> None:
        self.told: list[str] = []
        self.may_rest = asyncio.Event()

    def committed(self, rows: Committed) -> None:
        self.told.append(f"committed {rows.published}")

    async def rest(self, host: Host) -> None:
        await self.may_rest.wait()

    async def run(self, host: Host) -> None:
        self.told.append("run")
        await asyncio.Event().wait()

    async def finish(self, host: Host) -> None:
        self.told.append("finished")


class Place:
    """As much of a host as duties need here."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.health = Health(lambda *_: None)


@pytest.fixture
def host() -> Host:
    return Place()  # type: ignore[return-value]  # as much of it as is needed


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_made_before_its_time(host: Host) -> None:
    """A commit that does not concern them makes none; a second after the start they begin."""
    made: list[Duty] = []

    def make() -> list[Duty]:
        made.append(Duty())
        return made

    postponed = Postponed(make)
    running = asyncio.create_task(postponed.run(host))
    await turns()
    postponed.committed(Committed())
    await postponed.rest(host)  # at once: nothing was committed that concerns them
    await turns()
    assert made == []
    assert postponed.is_idle
    await host.clock.advance(1.5)  # type: ignore[attr-defined]  # the virtual clock
    await turns()
    assert made[0].told == ["run"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_commit_that_concerns_them_makes_them_at_once(host: Host) -> None:
    """They are told what they have missed, and whoever waits for them to rest does so."""
    duty = Duty()
    postponed = Postponed(lambda: [duty])
    running = asyncio.create_task(postponed.run(host))
    postponed.committed(Committed(2))
    assert not postponed.is_idle
    resting = asyncio.create_task(postponed.rest(host))
    await turns()
    assert sorted(duty.told) == ["committed 2", "run"]
    assert not resting.done()
    duty.may_rest.set()
    await resting
    postponed.committed(Committed(3))
    assert duty.told[-1] == "committed 3"
    await postponed.finish(host)
    assert duty.told[-1] == "finished"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_was_committed_just_before_the_end_is_finished(host: Host) -> None:
    """The end waits until they are made; and without a commit there is nothing to end."""
    untouched = Duty()
    await Postponed(lambda: [untouched]).finish(host)
    assert untouched.told == []
    duty = Duty()
    postponed = Postponed(lambda: [duty])
    running = asyncio.create_task(postponed.run(host))
    postponed.committed(Committed(1))
    await postponed.finish(host)
    assert duty.told[-1] == "finished"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
