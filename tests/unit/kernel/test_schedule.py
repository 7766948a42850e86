"""Schedules: when they tick, and what they refuse."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.kernel.errors import ConfigurationError
from torpor.kernel.schedule import Cron, Every


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@given(st.floats(0, 4e9), st.integers(1, 100_000))
def test_every_ticks_at_the_next_whole_multiple(time: float, seconds: int) -> None:
    """The next tick is later than now, by at most one period, and a multiple of the period."""
    tick = Every(seconds).after(time)
    assert time < tick <= time + seconds
    assert tick % seconds == 0


@pytest.mark.parametrize(
    ("expression", "now", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:15:00", "2026-01-01T00:30:00"),
        ("0 3 * * *", "2026-01-01T03:00:00", "2026-01-02T03:00:00"),
        ("30 9-17 * * mon-fri", "2026-11-20T17:30:00", "2026-11-23T09:30:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 13 * fri", "2026-11-14T00:00:00", "2026-11-20T00:00:00"),
        ("0 12 * * 7", "2026-11-21T00:00:00", "2026-11-22T12:00:00"),
        ("5,10 1 1 jan *", "2026-06-01T00:00:00", "2027-01-01T01:05:00"),
        ("@monthly", "2026-11-21T00:00:00", "2026-12-01T00:00:00"),
        ("0 0 * * sat-sun", "2026-11-20T00:00:00", "2026-11-21T00:00:00"),
    ],
)
def test_cron_ticks_as_crontab_says(expression: str, now: str, expected: str) -> None:
    """The tick after a moment is the one that crontab(5) describes, in UTC."""
    assert Cron(expression).after(at(now)) == at(expected)


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "0 0 31 2 *"]
)
def test_cron_refuses_what_never_ticks(expression: str) -> None:
    """A wrong expression is refused where it is written, and named."""
    with pytest.raises(ConfigurationError) as caught:
        Cron(expression)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_every_refuses_what_never_ticks(seconds: float) -> None:
    """A period must be a positive number."""
    with pytest.raises(ConfigurationError, match="never ticks"):
        Every(seconds)
