"""How far a group is in its topic, and since when one of its consumers stands still: pure values and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping


class Progress:
    """How far a group is, as one of its consumers sees it.

    `lag` is how many messages of the topic the group has not settled, whoever holds them, and `oldest_at` when the
    first of these came, in seconds since the epoch, where that is known. `shares` has each part of the topic in which
    something waits for this very consumer, with its place there: that is another one as soon as something of the part
    is settled. One that stands by has no share.
    """

    __slots__ = ("lag", "oldest_at", "shares")

    def __init__(
        self, lag: int, *, oldest_at: float | None = None, shares: Mapping[str, Hashable] | None = None
    ) -> None:
        self.lag = lag
        self.oldest_at = oldest_at
        self.shares = shares or {}

    def __repr__(self) -> str:
        return f"<Progress lag={self.lag} shares={dict(self.shares)}>"


class Standstill:
    """Since when each share of a consumer has not moved."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[str, tuple[Hashable, float]] = {}

    def look(self, shares: Mapping[str, Hashable], now: float) -> float:
        """Notes where the shares are, and returns for how many seconds the slowest of them has stood still. One that
        is empty, or with another consumer, begins anew when it comes back."""
        since = {}
        for part, place in shares.items():
            former, at = self._since.get(part, (None, now))
            since[part] = place, at if former == place and at <= now else now
        self._since = since
        return max((now - at for _, at in since.values()), default=0.0)

    def forget(self) -> None:
        """Begins anew: what stands still has a reason that is known."""
        self._since = {}
