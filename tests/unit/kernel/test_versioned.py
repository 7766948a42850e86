"""Versions that a header chooses: which handler answers whom."""

from __future__ import annotations

import pytest

from torpor import ConfigurationError, Versioned
from torpor.kernel.versioned import Lineup, NotVersioned, place_of

OLD, NEW, NEWEST = (Versioned(version) for version in ("2025-01-31", "2026-01-31", "2026-07-31"))


def answer(lineup: Lineup, said: str | None) -> tuple[int, str] | int:
    """The handler that is chosen and its version, or the status of the refusal."""
    try:
        return lineup.choose(said)
    except NotVersioned as error:
        return error.status


def test_a_handler_answers_until_there_is_a_newer_one() -> None:
    """What has not changed in a version need not be declared anew."""
    lineup = Lineup([NEW, OLD], [OLD, NEW, NEWEST])
    assert answer(lineup, "2025-01-31") == (1, "2025-01-31")
    assert answer(lineup, "2026-01-31") == (0, "2026-01-31")
    assert answer(lineup, "2026-07-31") == (0, "2026-07-31")
    assert answer(lineup, None) == (1, "2025-01-31")


def test_what_is_not_known_is_refused_with_what_is() -> None:
    """400 lists the versions; a path that is younger than the version is not there: 404."""
    lineup = Lineup([NEW], [OLD, NEW, NEWEST])
    with pytest.raises(
        NotVersioned, match=r"There is no version 'x'. API-Version may be: 2025-01-31, 2026-01-31, 2026"
    ):
        lineup.choose("x")
    with pytest.raises(NotVersioned, match=r"not there in version 2025-01-31. API-Version may be: 2026-01-31, 2026-07"):
        lineup.choose("2025-01-31")
    said = ("", "2026-1-31", "2026-01-31, 2026-01-31", "v2026-01-31", "2026-01-30", "9" * 5000)
    assert [answer(lineup, one) for one in said] == [400] * 6
    assert answer(lineup, None) == (0, "2026-01-31")


def test_a_default_may_be_told() -> None:
    """Without the header it is that one, or for a path that is younger or gone, the path's oldest."""
    default = Versioned("2026-01-31", default=True)
    known = [OLD, default, NEWEST]
    assert answer(Lineup([OLD, default, NEWEST], known), None) == (1, "2026-01-31")
    assert answer(Lineup([OLD, NEWEST], known), None) == (0, "2026-01-31")
    assert answer(Lineup([NEWEST], known), None) == (0, "2026-07-31")
    gone = Versioned("2025-01-31", until="2026-01-31")
    assert answer(Lineup([gone], known), None) == (0, "2025-01-31")


def test_what_ends_is_gone_in_later_versions() -> None:
    """`until` is the first version without it, and another may begin later."""
    early = Versioned("1", until="3")
    lineup = Lineup([early, Versioned("10")], [Versioned(version) for version in ("1", "2", "3", "9", "10", "11")])
    assert [answer(lineup, version) for version in ("1", "2", "3", "9", "10", "11")] == [
        (0, "1"), (0, "2"), 404, 404, (1, "10"), (1, "11")
    ]  # fmt: skip
    assert lineup.versions == ["1", "2", "3", "9", "10", "11"]


def test_versions_stand_in_the_order_of_their_numbers() -> None:
    """As dates and as numbers, whatever their texts."""
    assert sorted(["1.10", "1.9", "v2", "1", "10"], key=place_of) == ["1", "1.9", "1.10", "v2", "10"]
    assert place_of("2026-01-31") < place_of("2026-02-01")


@pytest.mark.parametrize("version", ["", "new", "1.", "2026/01/31", "1 ", "-1", "v", "\uff11"])
def test_a_version_is_a_date_or_a_number(version: str) -> None:
    """Nothing else has an order that everybody would agree on."""
    with pytest.raises(ConfigurationError, match="Expected a date or a number"):
        Versioned(version)


def test_a_wrong_header_or_end_is_told() -> None:
    """A header is a name, and an end comes after the beginning."""
    with pytest.raises(ConfigurationError, match="expected the name of a header"):
        Versioned("1", header="API Version")
    with pytest.raises(ConfigurationError, match="ends before it begins"):
        Versioned("2", until="1")
    with pytest.raises(ConfigurationError, match="Expected a date or a number"):
        Versioned("2", until="never")
