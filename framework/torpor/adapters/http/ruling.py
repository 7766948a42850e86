"""The rules of routes, each a plain ASGI layer around the routes that have it, and around no other."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
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
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.responses import Response
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
        if limits:
            host.metrics.limit(binding.handled.name, 0)
        for limit in reversed(limits):  # the widest is asked first
            fields = LimitFields(limit, partial(host.metrics.limit, binding.handled.name))
            shared = self._counting.shared(host, limit)
            if shared is None:
                route.app = LimitedApp(route.app, fields, self._counting.of(host.name, limit), host.clock.time)
            else:
                route.app = SharedlyLimitedApp(route.app, fields, shared)


class LimitedApp:
    """A route that somebody may ask so often, as this process counts."""

    __slots__ = ("_app", "_buckets", "_fields", "_time", "_whose")

    def __init__(self, app: ASGIApp, fields: LimitFields, buckets: Buckets, time: Callable[[], float]) -> None:
        self._app = app
        self._fields = fields
        self._buckets = buckets
        self._time = time
        self._whose = _counted(fields.limit)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answers one request. Nothing is waited for here, so that the route is what is awaited."""
        refusal = self._fields.told(scope, self._buckets.take(self._whose(scope), self._time()))
        return (refusal or self._app)(scope, receive, send)


class SharedlyLimitedApp:
    """A route that somebody may ask so often, as all replicas count."""

    __slots__ = ("_app", "_fields", "_shared", "_whose")

    def __init__(self, app: ASGIApp, fields: LimitFields, shared: SharedBuckets) -> None:
        self._app = app
        self._fields = fields
        self._shared = shared
        self._whose = _counted(fields.limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        refusal: Response | None
        try:
            refusal = self._fields.told(scope, await self._shared.take(self._whose(scope)))
        except StoreUnavailable:
            refusal = problem_for(scope, _UNAVAILABLE, UNCOUNTED, {"Retry-After": "1"})
        await (refusal or self._app)(scope, receive, send)


class LimitFields:
    """What a limit tells of itself, by the fields of the draft "RateLimit header fields for HTTP"."""

    __slots__ = ("_burst", "_interval", "_name", "_note", "_policy", "limit")

    def __init__(self, limit: Limit, note: Callable[[], None]) -> None:
        self.limit = limit
        self._note = note  # of a refusal
        self._burst = limit.burst
        self._interval = limit.per / limit.rate
        self._name = f'"{limit.by}"'
        self._policy = (b"ratelimit-policy", policy_of(limit).encode())

    def told(self, scope: Scope, left: float) -> Response | None:
        """Tells a request how many are left, or, below 0, in how many seconds there is one again: a refusal."""
        if left >= 0:
            full_in = math.ceil((self._burst - left) * self._interval)
            show(scope, (self._policy, (b"ratelimit", f"{self._name};r={int(left)};t={full_in}".encode())))
            return None
        self._note()
        limit, wait = self.limit, math.ceil(-left)
        show(scope, (self._policy, (b"ratelimit", f"{self._name};r=0;t={wait}".encode())))
        told = f"Asked too often: {limit.rate} times in {limit.per:g} s are allowed. Wait {wait} s."
        return problem_for(scope, _TOO_MANY, told, {"Retry-After": str(wait)})


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
    return "" if client is None else network_of(client[0])
