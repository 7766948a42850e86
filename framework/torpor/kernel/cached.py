"""Which answers are kept for a while, and for whom. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import ConfigurationError
from torpor.kernel.limit import CALLER, EVERYONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST = 604_800.0  # seconds that an answer is kept
_NAME = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)
_ANYTHING = re.compile(".+", re.DOTALL)
_PLACE = re.compile(r"{(\w*)}")


class Cached:
    """Keeps the answers of a GET route for so many seconds, and gives them to those who ask the same.

    ```python
    @orders.get("/orders/{order_id}", public=True, rules=[Cached(60, tags=["order:{order_id}"])])
    async def look(order_id: str, tx: Tx) -> Order: ...
    ```

    `by` says whose answers are one: `everyone`'s, or each `caller`'s his own, which holds for a route with `auth=`
    unless the other is said. `tags` name what an answer is made of, the parameters of the path in braces: it is kept
    no longer than until `tx.forget("order:7")`. `vary` are headers on which the answer depends, beside those that the
    handler asks for by name. `Cached(0)` keeps nothing, below a router that does.
    """

    __slots__ = ("by", "seconds", "tags", "vary")

    def __init__(
        self, seconds: float, *, tags: Sequence[str] = (), by: str | None = None, vary: Sequence[str] = ()
    ) -> None:
        problems = []
        if not 0 <= seconds <= LONGEST:  # NaN is neither
            problems.append(f"Cached({seconds}): expected seconds from 0 to {LONGEST:g}, which is a week.")
        if by not in {None, CALLER, EVERYONE}:
            problems.append(f"Cached(by={by!r}): expected caller or everyone.")
        problems += _misnamed("tags", tags, _ANYTHING)
        problems += _misnamed("vary", vary, _NAME)
        if problems:
            raise ConfigurationError(problems)
        self.seconds = float(seconds)
        self.tags = tuple(tags)
        self.by = by
        self.vary = tuple(name.lower() for name in vary)

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters of the path that its tags name."""
        return frozenset(name for tag in self.tags for name in _PLACE.findall(tag))

    def tags_of(self, parameters: Mapping[str, object]) -> tuple[str, ...]:
        """The tags of an answer, by the parameters of its path."""
        return tuple(_PLACE.sub(lambda found: str(parameters[found[1]]), tag) for tag in self.tags)

    def __repr__(self) -> str:
        return f"Cached({self.seconds:g}, tags={self.tags}, by={self.by!r}, vary={self.vary})"


class Directives:
    """What an answer says of itself in `Cache-Control`."""

    __slots__ = ("_said",)

    def __init__(self, text: str) -> None:
        self._said: dict[str, str] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            self._said.setdefault(name.strip().lower(), value.strip().strip('"'))

    def may_keep(self, *, is_callers: bool) -> bool:
        """Whether the answer may be kept: for all, or for its caller alone."""
        never = {"no-store", "no-cache", "must-understand"} if is_callers else {"no-store", "no-cache", "private"}
        return never.isdisjoint(self._said)

    @property
    def seconds(self) -> float:
        """How long it may be given to others; infinite when it does not say."""
        told = self._said.get("s-maxage", self._said.get("max-age"))
        if told is None:
            return math.inf
        return float(told) if told.isdecimal() else 0.0


def _misnamed(what: str, names: Sequence[Any], form: re.Pattern[str]) -> Iterator[str]:
    """What is wrong with a list of names."""
    if isinstance(names, str) or not all(isinstance(name, str) and form.fullmatch(name) for name in names):
        yield f"Cached({what}={names!r}): expected a list of {what if what == 'tags' else 'headers'}."
