"""The front door: what `torpor` exports, lazily."""

import pytest

import torpor


def test_every_exported_name_is_there() -> None:
    """Each name of `__all__` can be had, and the lazy table has no other."""
    assert set(torpor.__all__) == {*torpor._HOMES, "__version__"}  # the table is under test
    for name in torpor.__all__:
        assert getattr(torpor, name) is not None
    assert dir(torpor) == sorted(torpor.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not exported fails as it does in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Evnt'"):
        torpor.Evnt  # type: ignore[attr-defined]  # noqa: B018  # the mistake under test
