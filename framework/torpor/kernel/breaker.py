"""A circuit breaker's rules: which calls go through, and what their results change. The time is passed in."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

State = Literal["closed", "open", "half-open"]
Outcome = Literal["succeeded", "failed", "abandoned"]


class Permit:
    """Leave for a call. Its result counts only in the state that gave it, so that a late one changes nothing."""

    __slots__ = ()


class Refusal:
    """A call that may not be made, and the seconds until one may be."""

    __slots__ = ("retry_after",)

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"Refusal({self.retry_after:g})"


class Circuit:
    """Closed, it lets every call through, and opens once `failures` of the last `of` calls have failed.

    Open, it refuses for `open_seconds`. The next call is a probe: half-open, it refuses all others. A probe that
    succeeds closes the circuit, one that fails opens it anew, an abandoned one leaves its place to the next call, and
    so does one that has not come back after `open_seconds`. Invariant: `failures` <= `of`.
    """

    __slots__ = ("_results", "_since", "failures", "open_seconds", "permit", "state")

    def __init__(self, *, failures: int, of: int, open_seconds: float) -> None:
        self.failures = failures
        self.open_seconds = open_seconds
        self.state: State = "closed"
        self._results: deque[bool] = deque(maxlen=of)  # of the last calls that counted: whether each has failed
        self.permit = Permit()
        self._since = -math.inf  # when it opened or the probe began

    def ask(self, now: float) -> Permit | Refusal:
        """Decides about a call that wants to be made."""
        if self.state != "closed":
            self._since = min(self._since, now)  # a clock that was set back does not keep it open
            left = self.seconds_left(now)
            if left > 0:
                return Refusal(left)
            if self.state == "open":
                self._enter("half-open")
            self._since = now
        return self.permit

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> State | None:
        """Counts a call's result; returns the state that it has brought about, or None when it changes none."""
        if permit is not self.permit:
            return None
        if self.state == "half-open":
            return self._settle_probe(outcome, now)
        if outcome == "abandoned":
            return None
        self._results.append(outcome == "failed")
        if outcome == "succeeded" or self.failed < self.failures:
            return None
        self._since = now
        return self._enter("open")

    def succeed(self, permit: Permit, calls: int) -> None:
        """Counts calls that have all succeeded while it was closed, as `settle` would one by one."""
        if permit is self.permit:
            self._results.extend((False,) if calls == 1 else [False] * min(calls, self._results.maxlen or 0))

    def seconds_left(self, now: float) -> float:
        """How long calls are still refused."""
        return max(0.0, self._since + self.open_seconds - now)

    @property
    def failed(self) -> int:
        """How many of the last calls have failed; while the circuit is not closed, of the last before it opened."""
        return sum(self._results)

    @property
    def counted(self) -> int:
        """Of how many calls `failed` speaks."""
        return len(self._results)

    def reset(self) -> None:
        """Closes it and forgets all results."""
        self._results.clear()
        self._enter("closed")

    def _settle_probe(self, outcome: Outcome, now: float) -> State:
        if outcome == "succeeded":
            self._results.clear()
            return self._enter("closed")
        self._since = now if outcome == "failed" else -math.inf
        return self._enter("open")

    def _enter(self, state: State) -> State:
        self.state = state
        self.permit = Permit()
        return state

    def __repr__(self) -> str:
        return f"<Circuit {self.state}, {self.failed} of {self.counted} failed>"
