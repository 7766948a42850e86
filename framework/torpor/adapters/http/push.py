"""The push endpoint: CloudEvents over HTTP, in all three modes, to the handlers of topics. It knows no server."""

from __future__ import annotations

import asyncio
import logging
from functools import cache, partial
from typing import TYPE_CHECKING

from torpor.adapters.http.answer import Answer, problem
from torpor.adapters.http.binary import SOURCE_KEY, event_of
from torpor.kernel.cloudevents.envelope import BATCHED, STRUCTURED
from torpor.kernel.message import Message
from torpor.runtime.receiver import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torpor.adapters.http.reading import Request
    from torpor.runtime.guard import Guard
    from torpor.runtime.host import Host
    from torpor.runtime.plan import SubscriberBinding
    from torpor.runtime.receiver import Reception

    Place = tuple[Reception, Host, SubscriberBinding]
    Arrivals = Sequence[tuple[Message, str | None]]

EVENTS = "/-/events/"
_ALLOW = ("allow", "POST, OPTIONS")
HELD_SECONDS = 1.0  # for which one who comes while a service starts waits for it, rather than being sent away
_KEPT = frozenset({"content-type", "traceparent", "tracestate"})
_log = logging.getLogger("torpor.auth")

_DONE = Answer(204)


class PushEndpoint:
    """Hands what is posted to the handlers: to one by its name, or to all of an event's type."""

    def __init__(self, hosts: Sequence[Host], *, origins: Collection[str] = (), guard: Guard | None = None) -> None:
        self._guard = guard
        self._origins = frozenset(origins)
        self._named: dict[str, tuple[Host, SubscriberBinding]] = {}
        self._typed: dict[str, list[tuple[Host, SubscriberBinding]]] = {}
        self._places: dict[bytes, Place] = {}
        self._held: set[asyncio.Task[None]] = set()
        for host in hosts:
            for binding in host.plan.subscribers:
                self._named[binding.handled.name] = host, binding
                if host.reception is not None and guard is None:
                    self._places[f"{EVENTS}{binding.handled.name}".encode()] = host.reception, host, binding
                kind = binding.contract.__torpor_type__ or binding.topic
                self._typed.setdefault(kind, []).append((host, binding))

    def take(self, request: Request) -> bool:
        """Replies to an event for one handler, if it comes as most do, once it is handled, and without a task. False
        leaves a request to `answer`, which would say the same, and knows of everything else."""
        place = self._places.get(request.url)
        if place is None or request.method != b"POST":
            return False
        reception, host, binding = place
        message = event_of(request.fields, request.body, binding.topic)
        if message is None:
            return False
        if host.health.known.is_set():
            reception.take(binding.handled.name, message, partial(_reply, request))
        else:
            held = asyncio.get_running_loop().create_task(self._hold(request, place, message))
            self._held.add(held)
            held.add_done_callback(self._held.discard)
        return True

    async def _hold(self, request: Request, place: Place, message: Message) -> None:
        """Has an event handled that has come while its host starts."""
        reception, host, binding = place
        await host.clock.wait(host.health.known, HELD_SECONDS)
        reception.take(binding.handled.name, message, partial(_reply, request))

    async def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answers a request, whose headers' names are in lower case."""
        if method == "POST" and not await self._is_let_in(headers):
            return problem(401, "Who posts is not known here.", [("www-authenticate", "Bearer")])
        name = "" if path == "/" else path.removeprefix(EVENTS)
        if name and name not in self._named:
            return problem(404, f"No handler of the name {name[:80]!r} takes events here.")
        if method != "POST":
            return self._handshake(headers) if method == "OPTIONS" else problem(405, "Events are posted.", [_ALLOW])
        arrivals = _read(headers, body, topic=self._named[name][1].topic if name else "")
        if isinstance(arrivals, Answer):
            return arrivals
        if name:
            host, _ = self._named[name]
            return _answer_to(await _received(host, name, arrivals))
        return await self._dispatch(arrivals)

    async def _is_let_in(self, headers: Mapping[str, str]) -> bool:
        """Whether whoever posts has shown that it may; the log tells why not."""
        if self._guard is None:
            return True
        from torpor.kernel.identity import Denied

        try:
            await self._guard.admit(headers)
        except Denied as denied:
            _log.warning("an event is refused: %s", denied)
            return False
        return True

    async def _dispatch(self, arrivals: Arrivals) -> Answer:
        """Hands events to the handlers of their types, in order for each handler."""
        of: dict[str, list[tuple[Message, str | None]]] = {}
        for message, fault in arrivals:
            if message.type not in self._typed:
                return problem(404, f"No handler takes events of the type {message.type[:80]!r} here.")
            for _, binding in self._typed[message.type]:
                of.setdefault(binding.handled.name, []).append((_on(binding.topic, message), fault))
        verdicts: list[Verdict] = []
        for name, some in of.items():
            host, _ = self._named[name]
            verdicts.append(await _received(host, name, some))
        return _answer_to(max(verdicts, default=Verdict.DONE))

    def _handshake(self, headers: Mapping[str, str]) -> Answer:
        """Answers the webhook specification's question, whether events from an origin may be posted."""
        origin = headers.get("webhook-request-origin")
        if origin is None:
            return Answer(200, headers=[_ALLOW])
        if origin not in self._origins and "*" not in self._origins:
            return problem(403, f"No events are taken from {origin[:80]!r}. TORPOR_PUSH_ORIGINS names who may.")
        return Answer(
            200,
            headers=[
                _ALLOW,
                ("webhook-allowed-origin", origin),
                ("webhook-allowed-rate", headers.get("webhook-request-rate", "*")),
            ],
        )


async def _received(host: Host, name: str, arrivals: Arrivals) -> Verdict:
    """What became of events of a handler, whose host may still be starting."""
    known = host.health.known
    if not known.is_set():
        await host.clock.wait(known, HELD_SECONDS)
    return Verdict.BUSY if host.reception is None else await host.reception.receive(name, arrivals)


def _reply(request: Request, verdict: Verdict) -> None:
    request.reply(request, _DONE if verdict is Verdict.DONE else _answer_to(verdict))


@cache
def _answer_to(verdict: Verdict) -> Answer:
    if verdict is Verdict.BUSY:
        return problem(503, "Not handled yet. Send it again.", [("retry-after", "1")])
    return _DONE if verdict is Verdict.DONE else problem(422, "The handler has failed for good.")


def _read(headers: Mapping[str, str], body: bytes, *, topic: str) -> Arrivals | Answer:
    """The messages of a request, or why there are none."""
    from torpor.kernel.cloudevents.binary import decode_all

    content_type = headers.get("content-type", "").lower()
    if not content_type.startswith(STRUCTURED) and "ce-specversion" not in headers:
        is_json = not content_type or content_type.startswith("application/json")
        return problem(400 if is_json else 415, f"Expected a CloudEvent: ce- headers, or {STRUCTURED}+json.")
    is_batch = content_type.startswith(BATCHED)
    # The place of an event that has no id of its own: the same each time that the batch comes.
    position = _position(body) if is_batch else ""
    if is_batch:  # a faulty member is parked with the headers, which may hold what is nobody's business
        headers = {name: value for name, value in headers.items() if name in _KEPT or name.startswith("ce-")}
    arrivals = decode_all(headers, body, topic=topic, position=position)
    for message, fault in arrivals:
        if fault and message.data is body:  # nothing of it can be read
            return problem(400, fault)
        if message.key is None:
            message.key = message.attributes.get(SOURCE_KEY)
    return arrivals


def _position(body: bytes) -> str:
    from hashlib import blake2b

    return f"push:{blake2b(body, digest_size=16).hexdigest()}"


def _on(topic: str, message: Message) -> Message:
    return Message(
        topic, message.data, id=message.id, type=message.type, key=message.key, attributes=message.attributes
    )
