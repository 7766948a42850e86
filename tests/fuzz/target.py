"""What is fuzzed, and what must hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.fuzz.inputs import make
from torpor import Batch, Event, Order, Retry, Service, Tx
from torpor.adapters.http.push import PushEndpoint
from torpor.adapters.http.reading import Request
from torpor.kernel import cloudevents
from torpor.testing import TestShop

if TYPE_CHECKING:
    from tests.fuzz.inputs import Input
    from torpor.adapters.http.answer import Answer

ALLOWED = frozenset({200, 204, 400, 403, 404, 405, 413, 415, 422, 503})
_STYLES = (cloudevents.HTTP, cloudevents.NATS, cloudevents.KAFKA)


class Fuzzed(Event, topic="fuzzed", key="id"):
    id: str
    n: int = 0


class Broken(AssertionError):
    """An input that something broke on."""


def service() -> Service:
    """Handlers of three kinds."""
    made = Service("fuzzed")

    @made.on(Fuzzed, retry=Retry(attempts=1), pause=None)
    async def keyed(event: Fuzzed, tx: Tx) -> None: ...

    @made.on(Fuzzed, group="strict", order=Order.STRICT, retry=Retry(attempts=1), pause=None)
    async def strict(event: Fuzzed, tx: Tx) -> None: ...

    @made.on(Fuzzed, group="batched", batch=Batch(10), retry=Retry(attempts=1), pause=None)
    async def batched(events: list[Fuzzed], tx: Tx) -> None: ...

    return made


async def fuzz(seed: int, count: int) -> Counter[int]:
    """Posts so many requests that a seed makes; returns how often each status was answered. Raises Broken."""
    chance = Random(seed)
    statuses: Counter[int] = Counter()
    async with TestShop(service(), delivery="push") as shop:
        endpoint = PushEndpoint(shop.hosts, origins=["*"])
        for number in range(count):
            given = make(chance)
            try:
                decode(given)
                answer = await asyncio.wait_for(post(endpoint, given), timeout=30)
            except Exception as error:
                raise Broken(f"seed {seed}, input {number}: {type(error).__name__}: {error}\n{given!r}") from error
            if answer.status not in ALLOWED or (answer.status == 204 and answer.body):
                raise Broken(f"seed {seed}, input {number}: {answer!r}\n{given!r}")
            statuses[answer.status] += 1
        if not all(host.is_ready for host in shop.hosts):
            raise Broken(f"seed {seed}: {[host.status() for host in shop.hosts]}")
    return statuses


async def post(endpoint: PushEndpoint, given: Input) -> Answer:
    """Posts as the lean server does: by the short way, and by the long way what that leaves."""
    told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    request = Request(
        lambda _, answer: told.set_result(answer),
        method=given.method.encode(),
        url=given.path.encode(),
        fields=[(name.encode("latin-1", "ignore"), value.encode("latin-1", "ignore"))
                for name, value in given.headers.items()],
        body=given.body,
    )  # fmt: skip
    if endpoint.take(request):
        return await told
    return await endpoint.answer(given.method, given.path, given.headers, given.body)


def decode(given: Input) -> None:
    """Reads an input by each protocol's binding; nothing may raise, and a message is always there."""
    for style in _STYLES:
        for message, fault in cloudevents.decode_all(
            given.headers, given.body, topic="fuzzed", position="p", style=style
        ):
            if fault is None and not message.id:
                raise Broken("a message without an id and without a fault")
