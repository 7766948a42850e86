"""Torpor's ways of the work: awaited, deferred, set-wise, by session; with failures, and with its relay or without."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from benchmarks.work import SET_WISE, UPDATE, Booked, Paid, Place, accounts, make_tables, until
from torpor import Batch, Retry, Service, Tx, new_id
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.system.clock import SystemClock
from torpor.assembly import duties_of
from torpor.features.redrive import Redriver
from torpor.runtime.binding import bind
from torpor.runtime.host import Host

if TYPE_CHECKING:
    from benchmarks.work import Meter


class Failures:
    """Which messages fail: a share at random, or those of one key; once each, or always."""

    def __init__(self, *, share: float = 0.0, key: str | None = None, is_lasting: bool = False) -> None:
        self._chance = random.Random(7)  # noqa: S311  # the same share each time
        self._share = share
        self._key = key
        self._is_lasting = is_lasting
        self._judged: dict[int, bool] = {}

    def check(self, event: Paid) -> None:
        """Raises if this message is to fail now."""
        if self._key is not None:
            if event.account == self._key:
                raise Refused(event.account)
            return
        fails = self._judged.get(event.cents)  # its number in the stream
        if fails is None:
            fails = self._judged[event.cents] = self._chance.random() < self._share
            if fails:
                self._judged[event.cents] = self._is_lasting
        if fails:
            raise Refused(event.account)


class Refused(Exception):
    """What a handler of the benchmark fails with."""


def made(kind: str, meter: Meter, failures: Failures | None = None, retry: Retry | None = None) -> Service:
    """A service that books payments in one of our ways."""
    service = Service(f"bench-{kind}-{new_id()[-6:]}")

    async def awaited(event: Paid, tx: Tx) -> Booked:
        meter.first()
        await tx.execute(UPDATE, event.cents, event.account)
        return Booked(account=event.account, cents=event.cents)

    async def failing(event: Paid, tx: Tx) -> Booked:
        meter.first()
        await tx.execute(UPDATE, event.cents, event.account)
        if failures is not None:
            failures.check(event)
        return Booked(account=event.account, cents=event.cents)

    async def deferred(event: Paid, tx: Tx) -> Booked:
        meter.first()
        tx.write(UPDATE, event.cents, event.account)
        return Booked(account=event.account, cents=event.cents)

    async def batch(events: list[Paid], tx: Tx) -> list[Booked]:
        meter.first()
        await tx.execute(SET_WISE, [event.account for event in events], [event.cents for event in events])
        return [Booked(account=event.account, cents=event.cents) for event in events]

    async def session(event: Paid, tx: Tx) -> Booked:
        from sqlalchemy import text

        meter.first()
        statement = text("UPDATE account SET cents = cents + :cents WHERE id = :id")
        await tx.session.execute(statement, {"cents": event.cents, "id": event.account})
        return Booked(account=event.account, cents=event.cents)

    handlers: dict[str, Any] = {
        "awaited": awaited,
        "failing": failing,
        "deferred": deferred,
        "batch": batch,
        "session": session,
    }
    service.on(Paid, batch=Batch(500) if kind == "batch" else None, retry=retry or Retry(attempts=2))(handlers[kind])
    return service


async def host_of(service: Service, place: Place, *, has_relay: bool) -> Host:
    """The service on its servers, with its tables made, not started. Without a relay another process would have it."""
    plan = bind(service)
    clock = SystemClock()
    store = PostgresStore(place.dsn, clock)
    await store.migrate({})
    await make_tables(place.dsn, are_own=False)
    broker = JetStreamBroker(JetStreamOptions(servers=place.nats, name=service.name))
    duties = duties_of(plan) if has_relay else [Redriver()]
    return Host(plan, broker=broker, store=store, clock=clock, duties=duties)


async def effects(place: Place, kind: str, *, failures: Failures | None = None, has_relay: bool = False) -> float:
    """Messages a second, until the last is acknowledged, or with a relay until the last event is confirmed."""
    service = made(kind, place.meter, failures)
    host = await host_of(service, place, has_relay=has_relay)
    (binding,) = host.plan.subscribers
    numbers = host.metrics.of(binding.handled.name)
    await host.start()
    try:
        await until(lambda: numbers.done + numbers.parked >= place.count)  # the stream may hold more
        if has_relay:
            await until(lambda: host.metrics.published >= place.count)
        return place.meter.rate()
    finally:
        await host.stop(0.0)


async def failing(place: Place, share: float, *, is_lasting: bool) -> float:
    """The awaited way, with a share of the messages failing."""
    return await effects(place, "failing", failures=Failures(share=share, is_lasting=is_lasting))


async def others(place: Place, *, is_poisoned: bool) -> float:
    """Messages a second of all keys but one, which fails at every attempt or is as good as the others."""
    key = "7"
    count = sum(number != key for number in accounts(place.count))
    failures = Failures(key=key if is_poisoned else "none", is_lasting=True)
    service = made("failing", place.meter, failures, Retry(attempts=3, later=[0.1] * 10))
    host = await host_of(service, place, has_relay=False)
    (binding,) = host.plan.subscribers
    numbers = host.metrics.of(binding.handled.name)
    await host.start()
    try:
        await until(lambda: numbers.done >= (count if is_poisoned else place.count))
        return place.meter.rate() * count / place.count
    finally:
        await host.stop(0.0)
