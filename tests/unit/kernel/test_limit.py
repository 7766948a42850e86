"""Limits: the arithmetic of token buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from torpor.kernel.errors import ConfigurationError
from torpor.kernel.limit import BodyLimit, Buckets, Limit

rates = some.integers(1, 1000)
spans = some.floats(0.1, 3600)
waits = some.lists(some.floats(0, 100), max_size=60)


@given(rates, spans, some.integers(1, 50), waits)
def test_no_more_come_in_than_the_limit_says(rate: int, per: float, burst: int, gaps: list[float]) -> None:
    """In any stretch of time at most the burst and what the rate has added to it are let in."""
    buckets = Buckets(Limit(rate, per=per, burst=burst))
    now, let_in = 1e9, []
    for gap in gaps:
        now += gap
        if buckets.take("a", now) >= 0:
            let_in.append(now)
    for first, start in enumerate(let_in):
        for last in range(first, len(let_in)):
            allowed = burst + (let_in[last] - start) * rate / per
            assert last - first + 1 <= allowed + 0.01


@given(rates, spans, some.integers(1, 50))
def test_a_burst_is_let_in_whole_and_then_one_at_a_time(rate: int, per: float, burst: int) -> None:
    """A full bucket gives its burst at once; who then waits as long as he is told is let in again."""
    buckets = Buckets(Limit(rate, per=per, burst=burst))
    now = 1e6  # near 1e9 a float rounds a hundredth of the quickest token away
    left = [buckets.take("a", now) for _ in range(burst)]
    assert left == pytest.approx([*range(burst - 1, -1, -1)], abs=0.01)
    wait = -buckets.take("a", now)
    assert 0 < wait <= per / rate * 1.01
    assert buckets.take("a", now + wait) >= 0


@given(waits, waits)
def test_nobody_is_counted_for_another(mine: list[float], others: list[float]) -> None:
    """What one may do does not depend on how often another asks."""

    def told(crowd: list[float]) -> list[float]:
        buckets = Buckets(Limit(3, per=10))
        asks = sorted([*((at, "me") for at in mine), *((at, "other") for at in crowd)])
        return [left for at, who in asks for left in [buckets.take(who, 1e9 + at)] if who == "me"]

    assert told(others) == told([])


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    """After a step back of the clock a client waits for its bucket to fill at most once."""
    buckets = Buckets(Limit(1, per=10))
    assert buckets.take("a", 1e9) == 0
    assert buckets.take("a", 1e9 - 5000) == pytest.approx(-10)
    assert buckets.take("a", 1e9 - 4990) == 0


def test_memory_is_bounded() -> None:
    """However many come, so many are kept in mind, and the one that asked last longest."""
    buckets = Buckets(Limit(1, per=1000), most=10)
    for number in range(100):
        buckets.take(str(number), 1e9)
    assert len(buckets) == 10
    assert buckets.take("99", 1e9) < 0
    assert buckets.take("0", 1e9) == 0  # forgotten, and so full


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Limit(0), "lets nobody in"),
        (lambda: Limit(1, burst=0), "lets nobody in"),
        (lambda: Limit(1, per=0), "seconds above 0"),
        (lambda: Limit(1, per=float("nan")), "seconds above 0"),
        (lambda: Limit(1, by="moon"), "header:<name>"),
        (lambda: Limit(1, by="header:"), "header:<name>"),
        (lambda: BodyLimit(-1), "number of bytes"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(made: object, told: str) -> None:
    """A mistake is told where the value is made."""
    with pytest.raises(ConfigurationError, match=told):
        made()  # type: ignore[operator]


def test_limits_show_what_they_are() -> None:
    """A limit's repr is how it would be written."""
    assert repr(Limit(5, per=60, by="header:X-Tenant")) == "Limit(5, per=60, burst=5, by='header:X-Tenant')"
    assert Limit(5, by="header:X-Tenant").header == "x-tenant"
    assert Limit(5).header is None
    assert repr(BodyLimit(10)) == "BodyLimit(10)"
