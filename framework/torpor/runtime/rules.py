"""The rules of a route: what holds for its requests and its answers, whatever its handler does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from torpor.kernel.cached import Cached
from torpor.kernel.cors import Cors
from torpor.kernel.limit import CALLER, EVERYONE, BodyLimit, Limit
from torpor.kernel.preconditions import MustMatch
from torpor.kernel.representation import Compressed, Deprecated, ETags
from torpor.kernel.versioned import Versioned
from torpor.runtime.handed import is_handed_all
from torpor.runtime.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torpor.runtime.injection import Call

R = TypeVar("R")

Rule = Limit | BodyLimit | Timeout | Cors | ETags | Compressed | Cached | Deprecated | MustMatch | Versioned
KINDS: tuple[type[Any], ...] = (
    Limit, BodyLimit, Timeout, Cors, ETags, Compressed, Cached, Deprecated, MustMatch, Versioned,
)  # fmt: skip
HANDED_ALL = (
    "has a Cached, and it or a dependency is handed the whole request: nobody knows on what of it the answer depends. "
    'Say Cached(by="everyone"), with vary= for the headers that it reads; or ask for them by name.'
)
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


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

    @property
    def needs_shelf(self) -> bool:
        """Whether something is counted or kept for all replicas."""
        cached = self.of(Cached)
        return (cached is not None and cached.seconds > 0) or any(limit.shared for limit in self.limits)

    def problems(self, *, has_auth: bool) -> Iterator[str]:
        """What is wrong with them, for a route that knows its callers or does not."""
        for rule in self._strange:
            known = ", ".join(kind.__name__ for kind in KINDS)
            yield f"has {rule!r} among its rules=. Expected values of: {known}."
        if not has_auth and any(limit.by == CALLER for limit in self.limits):
            yield 'has a Limit(by="caller"), and nothing finds out who calls. Give it auth=, or count each "client".'

    def problems_of_cached(
        self, method: str, path: str, *, own: Sequence[Rule], has_auth: bool, call: Call
    ) -> Iterator[str]:
        """What is wrong with the `Cached` that holds for a route."""
        cached = self.of(Cached)
        if cached is None or not cached.seconds:
            return
        if method != "GET":
            if any(isinstance(rule, Cached) for rule in own):
                yield f"answers {method} with a Cached. Only the answers to GET are kept: drop it."
            return
        if cached.by == CALLER and not has_auth:
            yield 'has a Cached(by="caller"), and nothing finds out who calls. Give it auth=, or keep for "everyone".'
        if cached.by == EVERYONE and call.caller is not None:
            yield 'has a Cached(by="everyone"), and asks for Caller: one would be given what is another\'s. Drop by=.'
        if cached.by is None and not has_auth and is_handed_all(call):
            yield HANDED_ALL
        for name in sorted(cached.parameters - set(_PARAMETER.findall(path))):
            yield f"has a Cached whose tags name {name!r}, which is no parameter of {path}. Expected one that is there."

    def __repr__(self) -> str:
        return f"<Rules {[*self.limits, *(r for r in self._nearest.values() if not isinstance(r, Limit))]}>"
