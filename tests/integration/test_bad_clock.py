"""A clock that jumps forth and back, on real servers: nothing is lost or doubled, and it goes on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.trouble import Ledger, running, until
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from torpor.adapters.nats.embedded import EmbeddedNats

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture(params=["sqlite", "postgres"])
async def ledger(request: pytest.FixtureRequest, nats_server: EmbeddedNats, tmp_path: Path) -> AsyncIterator[Ledger]:
    """The service on NATS and each database, on a clock that can jump."""
    if request.param == "sqlite":
        ledger = Ledger(nats_server.url, lambda clock: SqliteStore(str(tmp_path / "ledger.db"), clock), tmp_path)
    else:
        url = request.getfixturevalue("postgres").url()
        schema = PostgresOptions(schema=f"s{id(tmp_path)}")
        ledger = Ledger(nats_server.url, lambda clock: PostgresStore(url, clock, schema), tmp_path)
    async with running(ledger):
        yield ledger


@pytest.mark.parametrize("jump", [4 * HOUR, -4 * HOUR, 400 * DAY, -400 * DAY])
async def test_work_goes_on_after_a_jump(ledger: Ledger, jump: float) -> None:
    """What was on its way and what comes after is handled once, the lease stays held, and every part works."""
    assert await ledger.ask("before") == 202
    ledger.clock.offset += jump
    assert await ledger.ask("after") == 202
    await ledger.settled()
    ledger.clock.offset -= jump
    assert await ledger.ask("back again") == 202
    await ledger.settled()
    assert ledger.host.is_ready


async def test_a_wait_ends_early_when_the_clock_jumps_over_it(ledger: Ledger) -> None:
    """An event for later is published once its time has come by the clock, once, though the clock goes back then."""
    assert await ledger.ask("later", after=2 * HOUR) == 202
    assert await ledger.ask("now") == 202
    await until(lambda: _told(ledger, ["now"]))
    ledger.clock.offset += 3 * HOUR
    await ledger.settled()
    ledger.clock.offset -= 3 * HOUR
    assert await ledger.ask("after") == 202
    await ledger.settled()


async def test_a_message_that_comes_again_after_a_jump_is_known(ledger: Ledger) -> None:
    """The inbox knows an id whatever the clock said when it came, back and forth within its retention."""
    message = ledger.message(b'{"id": "1", "owner": "ada"}')
    for jump in (0.0, 4 * HOUR, -DAY, 4 * HOUR):
        ledger.clock.offset += jump
        again = ledger.message(message.data, id=message.id, attributes={"source": "/trouble", "try": str(jump)})
        await ledger.publish(again)
    assert await ledger.ask("2") == 202
    await until(lambda: _told(ledger, ["1", "2"]))
    assert await ledger.ids("entry") == ["1", "2"]


async def test_a_clean_restart_after_a_jump_takes_the_lease(ledger: Ledger) -> None:
    """A service that was stopped while the clock was ahead publishes at once when it starts with the right time."""
    ledger.clock.offset += 400 * DAY
    assert await ledger.ask("ahead") == 202
    await ledger.settled()
    ledger.clock.offset = 0.0
    await ledger.restart()
    assert await ledger.ask("right") == 202
    await ledger.settled()


async def _told(ledger: Ledger, ids: list[str]) -> bool:
    return await ledger.ids("told") == ids
