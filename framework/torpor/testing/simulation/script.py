"""Which messages make trouble in a run, and for how long: drawn from the seed for each handler, key and number."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from torpor.kernel.errors import StatementFailed
from torpor.testing.simulation.ledger import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torpor.kernel.message import Message
    from torpor.testing.simulation.weather import Weather

_EVER = 1_000_000


class Trouble(Exception):  # what some user's handler raises
    """A handler's own failure."""


class Script:
    """What fails, and how often. Once it is over nothing does."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.is_over = False
        self._seed = seed
        self._weather = weather
        self._left: dict[str, int] = {}  # failures to come

    def perform(self, handler: str, key: str, number: int) -> None:
        """Raises when this handler is to fail for this message now."""
        if self._is_failing(f"{handler} {key}/{number}", self._weather.flaky_messages, self._weather.poisoned_messages):
            raise Trouble(f"{handler} fails for {key}/{number}")

    def declines(self, handler: str, key: str, number: int) -> bool:
        """Whether this handler is to leave this message out of its batch now."""
        return self._is_failing(f"{handler} declines {key}/{number}", self._weather.flaky_messages / 2, 0.0)

    def curse(self, messages: Iterable[Message]) -> None:
        """Raises when the database is to refuse rows as a whole, whose handlers were content."""
        for message in messages:
            if self._is_failing(f"curse {told(message)}", 0.0, self._weather.cursed_messages):
                raise StatementFailed(f"{told(message)} breaks a rule of the table.")

    def refuses(self, message: Message) -> bool:
        """Whether the broker is to refuse a message for good, until an operator mends it."""
        return self._is_failing(f"refusal {told(message)}", 0.0, self._weather.refused_messages)

    def _is_failing(self, name: str, flaky: float, poisoned: float) -> bool:
        if self.is_over or not (flaky or poisoned):
            return False
        left = self._left.get(name)
        if left is None:
            chance = Random(f"{self._seed} {name}")  # noqa: S311  # the chance of a simulation guards nothing
            draw = chance.random()
            left = _EVER if draw < poisoned else chance.randrange(1, 4) if draw < poisoned + flaky else 0
        self._left[name] = max(0, left - 1)
        return left > 0
