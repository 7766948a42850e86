"""How much may come in: how often somebody may ask, and how large a body may be. Pure."""

from __future__ import annotations

import math
import re

from torpor.kernel.errors import ConfigurationError

CLIENT, CALLER, EVERYONE = "client", "caller", "everyone"
_HEADER = re.compile(r"header:([\w-]+)", re.ASCII)
KNOWN_AT_ONCE = 10_000  # whom one Limit keeps in mind
_SLACK = 1e-6  # seconds that sums of times as floats may be off


class Limit:
    """How often somebody may ask: `rate` times in `per` seconds, and `burst` times at once. More is answered 429.

    ```python
    orders = Service("orders", rules=[Limit(100, per=60)])


    @orders.post("/orders", rules=[Limit(1, per=1, burst=5, by="header:x-tenant")])
    async def place(order: NewOrder, tx: Tx) -> Accepted: ...
    ```

    `by` says who is counted for himself: each `client` (its address), each `caller` (whom `auth=` has let in),
    `everyone` together, or each value of a header: `header:x-tenant`. The routes below a limit share it: those of a
    service count together. Each process counts for itself, unless it is `shared`: then all replicas of the service
    count together, where `TORPOR_SHARED` says. While that cannot be reached each counts for itself again; or, with
    `strict`, requests are answered 503.
    """

    __slots__ = ("burst", "by", "per", "rate", "shared", "strict")

    def __init__(
        self,
        rate: int,
        *,
        per: float = 1.0,
        burst: int | None = None,
        by: str = CLIENT,
        shared: bool = False,
        strict: bool = False,
    ) -> None:
        problems = []
        if rate < 1 or (burst is not None and burst < 1):
            problems.append(f"Limit({rate}, burst={burst}) lets nobody in. Expected 1 or more.")
        if not (math.isfinite(per) and per > 0):
            problems.append(f"Limit(per={per}): expected seconds above 0.")
        if by not in {CLIENT, CALLER, EVERYONE} and not _HEADER.fullmatch(by):
            problems.append(f"Limit(by={by!r}): expected client, caller, everyone or header:<name>.")
        if strict and not shared:
            problems.append("Limit(strict=True) is for one that is shared. Give it shared=True, or drop it.")
        if problems:
            raise ConfigurationError(problems)
        self.shared = shared
        self.strict = strict
        self.rate = rate
        self.per = per
        self.burst = rate if burst is None else burst
        self.by = by

    @property
    def header(self) -> str | None:
        """The header whose values are counted, in lower case."""
        found = _HEADER.fullmatch(self.by)
        return found[1].lower() if found else None

    def __repr__(self) -> str:
        shared = ", shared=True" * self.shared + ", strict=True" * self.strict
        return f"Limit({self.rate}, per={self.per:g}, burst={self.burst}, by={self.by!r}{shared})"


class BodyLimit:
    """How many bytes a body may have, in place of `TORPOR_HTTP_BODY_LIMIT`. More is answered 413.

    ```python
    @orders.put("/photos/{name}", rules=[BodyLimit(20_000_000)])
    async def keep(name: str, request: Request) -> None: ...
    ```
    """

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ConfigurationError([f"BodyLimit({size}): expected a number of bytes."])
        self.size = size

    def __repr__(self) -> str:
        return f"BodyLimit({self.size})"


class Drawing:
    """How a bucket of a `Limit` is drawn from. It is told by one number: the moment at which it will be full again."""

    __slots__ = ("interval", "span")

    def __init__(self, limit: Limit) -> None:
        self.interval = limit.per / limit.rate
        self.span = self.interval * limit.burst  # from empty to full

    def draw(self, full_at: float, now: float) -> tuple[float, float]:
        """Takes a token: returns when the bucket will be full then, and how many are left, or, below 0, the seconds
        until there is one again."""
        if full_at < now:
            full_at = now
        elif full_at > now + self.span:  # the clock has been set back
            full_at = now + self.span
        after = full_at + self.interval
        missing = after - now - self.span
        if missing > _SLACK:
            return full_at, -missing
        return after, max(0.0, -missing) / self.interval


class Buckets:
    """The buckets of one `Limit`. Each is full at first, loses a token to each request, and regains them with time.

    At most `KNOWN_AT_ONCE` are kept, and the one that has not been asked for the longest gives way: it is the fullest,
    or nearly.
    """

    __slots__ = ("_drawing", "_full_at", "_most")

    def __init__(self, limit: Limit, *, most: int = KNOWN_AT_ONCE) -> None:
        self._drawing = Drawing(limit)
        self._most = most
        self._full_at: dict[str, float] = {}

    def take(self, whose: str, now: float) -> float:
        """Takes a token: returns how many are left, or, below 0, the seconds until there is one again."""
        self._full_at[whose], left = self._drawing.draw(self._full_at.pop(whose, now), now)
        if len(self._full_at) > self._most:
            del self._full_at[next(iter(self._full_at))]
        return left

    def __len__(self) -> int:
        return len(self._full_at)
