"""A little of `scripts/fuzz`: whatever is posted, nothing breaks."""

from __future__ import annotations

from tests.fuzz.target import fuzz


async def test_no_input_breaks_the_decoder_or_the_endpoint() -> None:
    """Valid, mutated and random requests are all answered, none with a 500, and both good and bad ones are met."""
    statuses = await fuzz(seed=1, count=1_500)
    assert {204, 400} <= statuses.keys()
