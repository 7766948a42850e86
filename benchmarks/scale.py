"""How much a benchmark does: all of it for figures, or a little to see that it still runs."""

from __future__ import annotations


class Scale:
    """Rounds, and the share of the messages that a full run takes."""

    __slots__ = ("rounds", "share")

    def __init__(self, rounds: int = 5, share: float = 1.0) -> None:
        self.rounds = rounds
        self.share = share

    def of(self, full: int, least: int = 20) -> int:
        """A number of messages, rows or keys at this scale."""
        return max(least, int(full * self.share))


FULL = Scale()
TINY = Scale(rounds=1, share=0.005)
