"""The rules of routes, each a plain ASGI layer around the routes that have it, and around no other."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from torpor.adapters.http.caching import CachedApp
from torpor.adapters.http.counting import UNCOUNTED, Counting, network_of, policy_of
from torpor.adapters.http.crossing import CrossingApp
from torpor.adapters.http.edge import show
from torpor.adapters.http.guarding import CALLER
from torpor.adapters.http.problems import problem_for, trace_of
from torpor.adapters.http.representing import DeprecatedApp, WholeApp, compressed, tagged
from torpor.kernel import limit as kinds
from torpor.kernel.cached import Cached
from torpor.kernel.cors import Cors
from torpor.kernel.errors import StoreUnavailable
from torpor.kernel.representation import Compressed, Deprecated, ETags
from torpor.runtime.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from torpor.kernel.limit import Buckets, Limit
    from torpor.runtime.host import Host
    from torpor.runtime.limiting import SharedBuckets
    from torpor.runtime.plan import RouteBinding

_TOO_MANY, _UNAVAILABLE, _TOO_LATE = 429, 503, 504
_log = logging.getLogger("torpor.http")


class Ruling:
    """Puts the rules of bindings around their routes. What one `Limit` counts is counted together."""

    def __init__(self, counting: Counting | None = None) -> None:
        self._counting = counting or Counting()

    def around_handler(self, route: Route, binding: RouteBinding, host: Host) -> None:
        """The rules that hold for whom the guard has let in."""
        rules = binding.access.rules
        if rules is None:
            return
        timeout = rules.of(Timeout)
        if timeout is not None:
            route.app = TimedApp(route.app, timeout.seconds, binding)
        compression, deprecated = rules.of(Compressed), rules.of(Deprecated)
        if compression is not None:
            route.app = WholeApp(route.app, compressed(compression.least))
        cached = rules.of(Cached)
        if cached is not None and cached.seconds and binding.method == "GET":
            route.app = CachedApp(route.app, route, binding, cached=cached, host=host)  # as it is sent, compressed
        if rules.of(ETags) is not None:  # the tag is that of the bytes that are sent
            route.app = WholeApp(route.app, tagged)
        if deprecated is not None:
            route.app = DeprecatedApp(route.app, deprecated)
        self._limit(route, binding, host, [limit for limit in rules.limits if limit.by == kinds.CALLER])

    def around_guard(self, route: Route, binding: RouteBinding, host: Host) -> None:
        """The rules that hold before anybody asks who calls."""
        rules = binding.access.rules
        if rules is None:
            return
        self._limit(route, binding, host, [limit for limit in rules.limits if limit.by != kinds.CALLER])
        cors = rules.of(Cors)
        if cors is not None:
            route.app = CrossingApp(route.app, cors)

    def _limit(self, route: Route, binding: RouteBinding, host: Host, limits: Sequence[Limit]) -> None:
        for limit in reversed(limits):  # the widest is asked first
            buckets, shared = self._counting.of(host.name, limit), self._counting.shared(host, limit)
            route.app = LimitedApp(route.app, limit, buckets, host.clock.time, shared=shared)


class LimitedApp:
    """A route that somebody may ask so often: told by the fields of the draft "RateLimit header fields for HTTP"."""

    __slots__ = ("_app", "_buckets", "_interval", "_limit", "_name", "_policy", "_shared", "_time", "_whose")

    def __init__(
        self,
        app: ASGIApp,
        limit: Limit,
        buckets: Buckets,
        time: Callable[[], float],
        *,
        shared: SharedBuckets | None = None,
    ) -> None:
        self._app = app
        self._limit = limit
        self._interval = limit.per / limit.rate
        self._buckets = buckets
        self._shared = shared
        self._time = time
        self._whose = _counted(limit)
        self._name = limit.by.encode()
        self._policy = (b"ratelimit-policy", policy_of(limit).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if self._shared is None:
            left = self._buckets.take(self._whose(scope), self._time())
        else:
            try:
                left = await self._shared.take(self._whose(scope))
            except StoreUnavailable:
                await problem_for(scope, _UNAVAILABLE, UNCOUNTED, {"Retry-After": "1"})(scope, receive, send)
                return
        if left < 0:
            wait = math.ceil(-left)
            show(scope, (self._policy, (b"ratelimit", b'"%s";r=0;t=%d' % (self._name, wait))))
            told = f"Asked too often: {self._limit.rate} times in {self._limit.per:g} s are allowed. Wait {wait} s."
            await problem_for(scope, _TOO_MANY, told, {"Retry-After": str(wait)})(scope, receive, send)
            return
        full_in = math.ceil((self._limit.burst - left) * self._interval)
        show(scope, (self._policy, (b"ratelimit", b'"%s";r=%d;t=%d' % (self._name, left, full_in))))
        await self._app(scope, receive, send)


class TimedApp:
    """A route whose answer has begun within a time, or is given up: its handler is cancelled, and its unit undone."""

    __slots__ = ("_app", "_binding", "_seconds")

    def __init__(self, app: ASGIApp, seconds: float, binding: RouteBinding) -> None:
        self._app = app
        self._seconds = seconds
        self._binding = binding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def send_in_time(message: Message) -> None:
            if not timer.expired():
                timer.reschedule(None)  # a stream may last, and so may what runs in the background
            await send(message)

        timer = asyncio.timeout(self._seconds)
        try:
            async with timer:
                await self._app(scope, receive, send_in_time)
        except TimeoutError:
            if not timer.expired():
                raise
            self._tell(scope)
            told = f"This was not done within {self._seconds:g} s, and was given up."
            await problem_for(scope, _TOO_LATE, told)(scope, receive, send)

    def _tell(self, scope: Scope) -> None:
        binding = self._binding
        extra = {"service": binding.handled.service, "method": binding.method, "route": binding.path}
        _log.warning(
            "%s %s was given up after %g s, the limit of its Timeout",
            binding.method, binding.path, self._seconds, extra={**extra, "trace_id": trace_of(scope)},
        )  # fmt: skip


def _counted(limit: Limit) -> Callable[[Scope], str]:
    """Who is counted, by a request's scope."""
    if limit.by == kinds.CLIENT:
        return _client
    if limit.by == kinds.CALLER:
        return lambda scope: str(scope[CALLER])
    header = (limit.header or "").encode()
    if not header:
        return lambda _: ""
    return lambda scope: next((str(value, "latin-1") for name, value in scope["headers"] if name == header), "")


def _client(scope: Scope) -> str:
    client: Any = scope.get("client")
    if client is None:
        return ""
    return network_of(client[0])
