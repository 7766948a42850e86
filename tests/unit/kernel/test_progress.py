"""Since when a consumer stands still: the rule, without a clock."""

from __future__ import annotations

from torpor.kernel.progress import Progress, Standstill


def test_what_does_not_move_stands_since_it_was_first_seen() -> None:
    """Time counts from the first look at a place."""
    standstill = Standstill()
    assert [standstill.look({"0": 5}, now) for now in (100.0, 110.0, 160.0)] == [0.0, 10.0, 60.0]


def test_what_moves_begins_anew() -> None:
    """Every move counts, backwards too, as when a topic was made anew."""
    standstill = Standstill()
    places = [5, 5, 6, 6, 2]
    seen = [standstill.look({"0": place}, 10.0 * turn) for turn, place in enumerate(places)]
    assert seen == [0.0, 10.0, 0.0, 10.0, 0.0]


def test_the_slowest_share_counts() -> None:
    """One partition that stands still is not hidden by others that move."""
    standstill = Standstill()
    assert [standstill.look({"0": 5, "1": turn}, 10.0 * turn) for turn in range(4)] == [0.0, 10.0, 20.0, 30.0]


def test_what_was_empty_or_elsewhere_begins_anew() -> None:
    """A share that comes back, at the same place even, has not stood still meanwhile."""
    standstill = Standstill()
    standstill.look({"0": 5}, 0.0)
    assert standstill.look({}, 50.0) == 0.0
    assert standstill.look({"0": 5}, 60.0) == 0.0
    assert standstill.look({"0": 5}, 70.0) == 10.0


def test_a_known_reason_begins_anew() -> None:
    """After an outage the consumer is given its whole time again."""
    standstill = Standstill()
    standstill.look({"0": 5}, 0.0)
    standstill.forget()
    assert standstill.look({"0": 5}, 500.0) == 0.0


def test_a_clock_that_goes_back_begins_anew() -> None:
    """Nobody stands still for a negative time, nor for what the jump was."""
    standstill = Standstill()
    standstill.look({"0": 5}, 1000.0)
    assert [standstill.look({"0": 5}, now) for now in (100.0, 130.0)] == [0.0, 30.0]


def test_progress_tells_of_itself() -> None:
    """Its repr has the lag and the shares."""
    assert repr(Progress(3, oldest_at=1.0, shares={"0": 5})) == "<Progress lag=3 shares={'0': 5}>"
    assert dict(Progress(0).shares) == {}
