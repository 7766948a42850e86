"""The promises hold while real processes, a real broker and a real database are killed, frozen and cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import weather
from tests.chaos.broker import KINDS
from tests.chaos.report import as_text
from tests.chaos.run import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.run import Outcome

    Run = Callable[[Plan], Awaitable[Outcome]]

SECONDS = 60.0
MESSAGES = 6000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", KINDS)
async def test_nothing_is_lost_doubled_reordered_or_stuck(run: Run, broker: str) -> None:
    """A minute of every fault breaks no promise, on either broker."""
    outcome = await run(Plan(seconds=SECONDS, messages=MESSAGES, keys=150, broker=broker))
    verdict = outcome.verdict
    assert verdict.is_good, as_text(outcome)
    assert (verdict.lost, verdict.doubled, verdict.reordered, verdict.stuck) == (0, 0, 0, 0)
    assert verdict.ledger.messages == MESSAGES
    for kind in weather.USUAL:
        assert verdict.ledger.count(kind), f"there was no {kind}"
    assert outcome.cuts
    assert verdict.ledger.mended
    assert verdict.ledger.redrives
    assert all(outcome.passages.values()), "a replica did not come by its own gates"
    answered = sum(how == "answered" for how in verdict.ledger.asked.values())
    assert bool(answered) is bool(verdict.evidence.glances) is (broker == "nats")
