"""The promises hold while real processes, a real broker and a real database are killed, frozen and cut off."""

from __future__ import annotations

import pytest

from tests.chaos import weather
from tests.chaos.report import as_text
from tests.chaos.run import Plan, perform

SECONDS = 60.0
MESSAGES = 6000


@pytest.mark.timeout(300)
async def test_nothing_is_lost_doubled_reordered_or_stuck() -> None:
    """A minute of every fault breaks no promise."""
    outcome = await perform(Plan(seconds=SECONDS, messages=MESSAGES, keys=150))
    verdict = outcome.verdict
    assert verdict.is_good, as_text(outcome)
    assert (verdict.lost, verdict.doubled, verdict.reordered, verdict.stuck) == (0, 0, 0, 0)
    assert verdict.ledger.messages == MESSAGES
    for kind in weather.USUAL:
        assert verdict.ledger.count(kind), f"there was no {kind}"
    assert outcome.cuts
    assert verdict.ledger.mended
    assert verdict.ledger.redrives
