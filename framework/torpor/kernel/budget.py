"""A retry budget: repeated calls may be a share of all calls, so that a system in trouble is not called to death."""

from __future__ import annotations

_RESERVE = 10.0  # retries that one who calls rarely may make
_MOST = 100.0


class RetryBudget:
    """Each call adds its share, each retry takes one. What is saved up has a limit, and a few come back with time."""

    __slots__ = ("_at", "_left", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self._left = _RESERVE
        self._at = 0.0

    def called(self, now: float) -> None:
        """Counts a first call."""
        if self._left < _RESERVE:
            self._left = min(_RESERVE, self._left + max(0.0, now - self._at))
        self._at = now
        self._left = min(_MOST, self._left + self.share)

    def may_retry(self) -> bool:
        """Takes one, if there is one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def __repr__(self) -> str:
        return f"<RetryBudget share={self.share:g} left={self._left:.1f}>"
