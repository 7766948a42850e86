"""What each `Limit` has counted: routes and sockets below it count together."""

from __future__ import annotations

import math
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from torpor.kernel.limit import Buckets

if TYPE_CHECKING:
    from torpor.kernel.identity import Caller
    from torpor.kernel.limit import Limit
    from torpor.runtime.host import Host
    from torpor.runtime.limiting import SharedBuckets
    from torpor.runtime.plan import Plan

UNCOUNTED = "How often this is asked cannot be counted at the moment. Try again soon."
_NETWORK = 8  # bytes of an IPv6 address that are the network's: who has one address has all of them


class Counting:
    """The buckets of every `Limit` of a deployment."""

    __slots__ = ("_buckets", "_shared")

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Limit], Buckets] = {}
        self._shared: dict[tuple[str, Limit], SharedBuckets] = {}

    def of(self, service: str, limit: Limit) -> Buckets:
        """What a limit of a service has counted."""
        return self._buckets.setdefault((service, limit), Buckets(limit))

    def shared(self, host: Host, limit: Limit) -> SharedBuckets | None:
        """What all replicas of a service have counted; None when this process counts for itself."""
        if not limit.shared or host.shelf is None or not host.shelf.promises.is_shared:
            return None
        place = host.name, limit
        if place not in self._shared:
            from torpor.runtime.limiting import SharedBuckets

            name = _name_of(limit, host.plan)
            self._shared[place] = SharedBuckets(limit, name, shelf=host.shelf, clock=host.clock)
        return self._shared[place]

    async def take(self, host: Host, limit: Limit, whose: str) -> float:
        """Takes a token of somebody: returns how many are left, or, below 0, the seconds until there is one again.
        Raises StoreUnavailable for a strict limit that cannot be counted."""
        shared = self.shared(host, limit)
        if shared is not None:
            return await shared.take(whose)
        return self.of(host.name, limit).take(whose, host.clock.time())


def _name_of(limit: Limit, plan: Plan) -> str:
    """The same name in every replica: that of the first handler below a limit, and its place among that one's."""
    below = [(one.handled, one.access.rules) for one in plan.routes]
    below += [(one.handled, one.access.rules) for one in plan.sockets]
    for handled, rules in below:
        if rules is not None and limit in rules.limits:
            return f"{handled.name} {rules.limits.index(limit)} {limit!r}"
    return repr(limit)


def policy_of(limit: Limit) -> str:
    """A limit, as the field `RateLimit-Policy` tells it."""
    return f'"{limit.by}";q={limit.rate};w={math.ceil(limit.per)}'


def text_of(caller: Caller) -> str:
    """A caller, as a text that tells callers apart."""
    return f"{caller.kind}\n{caller.issuer}\n{caller.subject}"


def network_of(host: str) -> str:
    """Whom an address stands for."""
    return IPv6Address(host.partition("%")[0]).packed[:_NETWORK].hex() if ":" in host else host
