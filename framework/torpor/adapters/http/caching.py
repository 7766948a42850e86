"""Answers that are kept for a while, by RFC 9111: a layer around the routes that have a `Cached`."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from torpor.adapters.http.likeness import Likeness, header_of, listed, value_of
from torpor.adapters.http.representing import tagged
from torpor.kernel.cached import Directives
from torpor.kernel.errors import ConfigurationError, StoreUnavailable
from torpor.runtime.caching import MOST_BYTES, Cache, Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from torpor.kernel.cached import Cached
    from torpor.runtime.host import Host
    from torpor.runtime.plan import RouteBinding

    Made = Callable[[Kept | None], None]
    Headers = list[tuple[bytes, bytes]]

_KEPT = frozenset({200, 203, 204, 300, 301, 308})
_OK, _EMPTY = 200, 204
_ROUNDS = 3
_HIT, _MISS, _PASSED = "hit", "miss", "passed"
# What is of one exchange, or a secret, or told anew each time.
_NOT_KEPT = frozenset({b"age", b"connection", b"date", b"keep-alive", b"server", b"transfer-encoding"})


class Making:
    """An answer while the handler makes it: sent as it comes, and kept if it may be."""

    def __init__(self, scope: Scope, send: Send, *, at: float, given: Given, made: Made) -> None:
        self._scope = scope
        self._send = send
        self._at = at
        self._given = given
        self._made = made
        self._start: Message | None = None

    async def take(self, message: Message) -> None:
        """What the application would send."""
        if message["type"] == "http.response.start":
            if message["status"] in _KEPT and _is_whole(message):
                self._start = message
                return
            self._made(None)
        elif self._start is not None:
            start, self._start = self._start, None
            is_all = message["type"] == "http.response.body" and not message.get("more_body", False)
            kept = self._given.kept(start, message.get("body", b""), self._at) if is_all else None
            self._made(kept)
            if kept is not None:
                start, message["body"] = await shown(kept, self._scope)
            await self._send(start)
        await self._send(message)


class Given:
    """Makes what is kept of an answer."""

    __slots__ = ("_cached", "_likeness", "_told", "tokens")

    def __init__(self, cached: Cached, likeness: Likeness, told: bytes, tokens: Mapping[str, str]) -> None:
        self._cached = cached
        self._likeness = likeness
        self._told = told
        self.tokens = tokens

    def kept(self, start: Message, body: bytes, at: float) -> Kept | None:
        """The answer as it is kept; None when it may not be."""
        headers: Headers = [(name.lower(), value) for name, value in start.get("headers", ())]
        said = value_of(headers, b"cache-control")
        directives = Directives(said)
        seconds = min(self._cached.seconds, directives.seconds)
        if seconds <= 0 or len(body) > MOST_BYTES or not self._likeness.may_keep(directives, headers):
            return None
        headers = [(name, value) for name, value in headers if name not in _NOT_KEPT]
        if not said:
            headers.append((b"cache-control", self._told))
        if start["status"] == _OK and not value_of(headers, b"etag"):
            headers.append((b"etag", b'"%s"' % blake2b(body, digest_size=16).hexdigest().encode()))
        if untold := [name for name in self._likeness.headers if name not in listed(headers, b"vary")]:
            headers.append((b"vary", ", ".join(untold).encode()))
        return Kept(start["status"], headers, body, at=at, until=at + seconds, tokens=self.tokens)


class Flight:
    """One request that is being answered, those who wait for its answer, and the way of that to the shelf."""

    __slots__ = ("_check", "answer", "keeping")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Kept | None] = asyncio.get_running_loop().create_future()
        self.keeping: asyncio.Task[None] | None = None
        self._check: asyncio.Task[bool] | None = None

    async def wait(self, check: Callable[[Kept], Coroutine[Any, Any, bool]]) -> tuple[Kept | None, bool]:
        """The answer, None when it is not to be kept; and whether it may be given still. That is asked once for all
        who came before there was an answer, and for each who came after."""
        is_late = self.answer.done()
        kept = await asyncio.shield(self.answer)
        if kept is None:
            return None, False
        if is_late:
            return kept, await check(kept)
        if self._check is None:
            self._check = asyncio.create_task(check(kept))
        return kept, await asyncio.shield(self._check)


class CachedApp:
    """A route whose answers are kept. Of those who ask the same at once, one has the handler run."""

    def __init__(self, app: ASGIApp, route: Route, binding: RouteBinding, *, cached: Cached, host: Host) -> None:
        if host.shelf is None:
            raise ConfigurationError([f"{binding!r} has {cached!r}, and {host.name!r} has no shelf. Give it one."])
        self._app = app
        self._cached = cached
        self._cache = Cache(host.shelf, host.clock)
        self._likeness = Likeness(route, binding, cached)
        self._told = _told(cached, is_private=binding.access.auth is not None)
        self._time = host.clock.time
        self._counts = host.metrics.cached
        self._flights: dict[str, Flight] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if header_of(scope, "range"):
            await self._pass(scope, receive, send)
            return
        key, tags = self._likeness.key_of(scope), self._cached.tags_of(scope.get("path_params", {}))
        for _ in range(_ROUNDS):  # what an answer is made of may change while it is made
            flight = self._flights.get(key)
            if flight is None:
                await self._lead(scope, receive, send, place=(key, tags))
                return
            kept, holds = await flight.wait(partial(self._holds, tags))
            if kept is None:
                break
            if holds:
                self._count(_HIT)
                await self._give(kept, scope, send)
                return
            self._land(key, flight)
        await self._pass(scope, receive, send)

    async def _lead(self, scope: Scope, receive: Receive, send: Send, *, place: tuple[str, Sequence[str]]) -> None:
        """Answers the first of those who ask the same, and lets the others know."""
        key, tags = place
        flight = self._flights[key] = Flight()
        outcome, kept = _PASSED, None
        try:
            at = self._time()
            kept, tokens = await self._found(key, tags)
            if kept is not None:
                outcome = _HIT
                flight.answer.set_result(kept)
            else:
                made = partial(self._made, key, flight, is_known=tokens is not None)
                given = Given(self._cached, self._likeness, self._told, tokens or {})
                await self._app(scope, receive, Making(scope, send, at=at, given=given, made=made).take)
        finally:
            if not flight.answer.done():
                flight.answer.set_result(None)
            elif kept is None and flight.answer.result() is not None:
                outcome = _MISS
            self._count(outcome)
            if flight.keeping is None:
                self._land(key, flight)
        if kept is not None:
            await self._give(kept, scope, send)
        elif flight.keeping is not None:
            await flight.keeping

    def _made(self, key: str, flight: Flight, kept: Kept | None, *, is_known: bool) -> None:
        """The handler has answered, in a way that may be kept or not. It is put on the shelf while it is sent. Without
        the shelf nobody knows how long an answer with tags holds."""
        if flight.answer.done():
            return
        flight.answer.set_result(kept if is_known or not self._cached.tags else None)
        if kept is not None and is_known:
            flight.keeping = asyncio.create_task(self._keep(key, kept))
            flight.keeping.add_done_callback(lambda _: self._land(key, flight))
        elif flight.answer.result() is None:
            self._land(key, flight)

    def _land(self, key: str, flight: Flight) -> None:
        """Nobody joins it any more."""
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _found(self, key: str, tags: Sequence[str]) -> tuple[Kept | None, Mapping[str, str] | None]:
        """What is kept; or the tokens under which to keep an answer, None when it cannot be kept."""
        try:
            kept, tokens = await self._cache.find(key, tags)
            if kept is not None:
                return kept, tokens
            return None, await self._cache.begin(tags, tokens, seconds=self._cached.seconds)
        except StoreUnavailable:
            return None, None

    async def _holds(self, tags: Sequence[str], kept: Kept) -> bool:
        try:
            return await self._cache.holds(kept, tags)
        except StoreUnavailable:
            return False

    async def _keep(self, key: str, kept: Kept) -> None:
        try:
            await self._cache.keep(key, kept)
        except StoreUnavailable:
            return  # whoever has asked the shelf has told and counted it

    async def _give(self, kept: Kept, scope: Scope, send: Send) -> None:
        """Answers with what is kept."""
        start, body = await shown(kept, scope, age=max(0, math.floor(self._time() - kept.at)))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count(_PASSED)
        await self._app(scope, receive, send)

    def _count(self, outcome: str) -> None:
        named = self._likeness.handler, outcome
        self._counts[named] = self._counts.get(named, 0) + 1


def _is_whole(start: Message) -> bool:
    """Whether an answer may come at once: one that does not tell its length is a stream, whose begin must not wait."""
    return start["status"] == _EMPTY or any(name.lower() == b"content-length" for name, _ in start.get("headers", ()))


async def shown(kept: Kept, scope: Scope, *, age: int | None = None) -> tuple[Message, bytes]:
    """An answer to one request: 304 for who has it."""
    headers = [*kept.headers] if age is None else [*kept.headers, (b"age", b"%d" % age)]
    start: Message = {"type": "http.response.start", "status": kept.status, "headers": headers}
    return await tagged(scope, start, kept.body) if kept.status == _OK else (start, kept.body)


def _told(cached: Cached, *, is_private: bool) -> bytes:
    """What clients are told: to ask again each time when it may be forgotten before its time."""
    told = "no-cache" if cached.tags else f"max-age={math.floor(cached.seconds)}"
    return f"private, {told}".encode() if is_private else told.encode()
