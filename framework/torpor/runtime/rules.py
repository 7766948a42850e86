"""The rules of a route: what holds for its requests and its answers, whatever its handler does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from torpor.kernel.cors import Cors
from torpor.kernel.limit import CALLER, BodyLimit, Limit
from torpor.kernel.representation import Compressed, Deprecated, ETags
from torpor.runtime.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

R = TypeVar("R")

Rule = Limit | BodyLimit | Timeout | Cors | ETags | Compressed | Deprecated
KINDS: tuple[type[Any], ...] = (Limit, BodyLimit, Timeout, Cors, ETags, Compressed, Deprecated)


class Rules:
    """The rules of a route, gathered from its service, its routers and itself.

    Limits add up. Of every other kind the nearest holds.
    """

    __slots__ = ("_nearest", "_strange", "limits")

    def __init__(self, given: Sequence[Rule] = ()) -> None:
        self.limits: tuple[Limit, ...] = ()
        self._nearest: dict[type[Any], Any] = {}
        self._strange: tuple[object, ...] = ()
        self._add(given)

    def _add(self, given: Sequence[Rule]) -> None:
        self.limits += tuple(rule for rule in given if isinstance(rule, Limit))
        self._nearest.update((type(rule), rule) for rule in given if isinstance(rule, KINDS))
        self._strange += tuple(rule for rule in given if not isinstance(rule, KINDS))

    def below(self, given: Sequence[Rule]) -> Rules:
        """These, and what is said further down."""
        if not given:
            return self
        rules = Rules()
        rules.limits, rules._nearest, rules._strange = self.limits, dict(self._nearest), self._strange
        rules._add(given)
        return rules

    def of(self, kind: type[R]) -> R | None:
        """The rule of a kind that holds."""
        found: R | None = self._nearest.get(kind)
        return found

    def problems(self, *, has_auth: bool) -> Iterator[str]:
        """What is wrong with them, for a route that knows its callers or does not."""
        for rule in self._strange:
            known = ", ".join(kind.__name__ for kind in KINDS)
            yield f"has {rule!r} among its rules=. Expected values of: {known}."
        if not has_auth and any(limit.by == CALLER for limit in self.limits):
            yield 'has a Limit(by="caller"), and nothing finds out who calls. Give it auth=, or count each "client".'

    def __repr__(self) -> str:
        return f"<Rules {[*self.limits, *(r for r in self._nearest.values() if not isinstance(r, Limit))]}>"
