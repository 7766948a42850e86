"""The services that the chaos run starts and kills: a source of numbers by key, a sink, and a tail with trouble.

POST /numbers, /keyed ─ source ─▶ chaos.placed ─ sink ─▶ chaos.counted ─ tail.check (some fail, some are parked)
└──▶ chaos.reminded ─ tail.remember (a while after)
"""

from __future__ import annotations

import os
import time
from random import random, uniform

from fastapi import HTTPException
from pydantic import BaseModel

from tests.chaos.script import is_poisoned, is_reminded
from torpor import Event, Idempotent, Retry, Service, Tx

EFFECT = "INSERT INTO effect (handler, key, number, at, replica) VALUES ($1, $2, $3, $4, $5)"
REPLICA = os.environ.get("CHAOS_REPLICA", "")
FLAKY = 0.003  # of the messages fail for no reason
LONGEST_REMINDER = 2.0


class Placed(Event, topic="chaos.placed", key="key"):
    """One number of a key's sequence."""

    key: str
    number: int


class Counted(Event, topic="chaos.counted", key="key"):
    """What follows from a placed one."""

    key: str
    number: int


class Reminded(Event, topic="chaos.reminded", key="key"):
    """What comes a while after some."""

    key: str
    number: int


class Flaky(Exception):
    """A failure without a reason, which passes."""


class Poisoned(Exception):
    """A failure that lasts until somebody mends its cause."""


class Numbers(BaseModel):
    """Numbers of a key that are placed together, or, when the client changes its mind, not at all."""

    key: str
    first: int
    count: int
    is_regretted: bool = False


class Taken(BaseModel):
    """They are placed, now or before."""

    was_known: bool


source = Service("source", migrations="migrations/source", public=True)
sink = Service("sink", migrations="migrations/sink")
tail = Service("tail", migrations="migrations/tail")


@source.post("/keyed", status_code=202, idempotency=Idempotent(required=True), publishes=[Placed])
async def place_keyed(numbers: Numbers, tx: Tx) -> Taken:
    """Places numbers whenever it is asked: that it is asked once for each is Torpor's work."""
    _place(numbers, tx, "INSERT INTO sent (key, number, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
    return Taken(was_known=False)


@source.post("/numbers", status_code=202, publishes=[Placed])
async def place(numbers: Numbers, tx: Tx) -> Taken:
    """Places numbers in order. A client that does not know how a request ended asks again."""
    if await tx.fetch_one("SELECT 1 AS one FROM sent WHERE key = $1 AND number = $2", numbers.key, numbers.first):
        return Taken(was_known=True)
    _place(numbers, tx, "INSERT INTO sent (key, number, at) VALUES ($1, $2, $3)")
    if numbers.is_regretted:
        raise HTTPException(409, "The client has changed its mind.")
    return Taken(was_known=False)


@sink.on(Placed, publishes=[Reminded])
async def count(event: Placed, tx: Tx) -> Counted:
    """Passes a number on, and some again later."""
    tx.write(EFFECT, "sink.count", event.key, event.number, time.time(), REPLICA)
    if is_reminded(event.number):
        tx.publish(Reminded(key=event.key, number=event.number), after=uniform(0.1, LONGEST_REMINDER))
    return Counted(key=event.key, number=event.number)


@tail.on(Counted, retry=Retry(attempts=2, later=[0.5, 1.0], give_up_on=(Poisoned,)))
async def check(event: Counted, tx: Tx) -> None:
    """Fails for some: now and then for no reason, and for the poisoned until they are mended."""
    is_bad = is_poisoned(event.key, event.number)
    if (is_bad or random() < FLAKY) and not await is_mended(event.key, tx):
        raise Poisoned(f"{event.key}/{event.number}") if is_bad else Flaky(f"{event.key}/{event.number}")
    tx.write(EFFECT, "tail.check", event.key, event.number, time.time(), REPLICA)


@tail.on(Reminded)
async def remember(event: Reminded, tx: Tx) -> None:
    """Hears of a number again."""
    tx.write(EFFECT, "tail.remember", event.key, event.number, time.time(), REPLICA)


def _place(numbers: Numbers, tx: Tx, statement: str) -> None:
    for number in range(numbers.first, numbers.first + numbers.count):
        tx.write(statement, numbers.key, number, time.time())
        tx.publish(Placed(key=numbers.key, number=number))


async def is_mended(key: str, tx: Tx) -> bool:
    """Whether an operator has removed the cause of failures."""
    return await tx.fetch_one("SELECT 1 AS one FROM mended WHERE key IN ($1, '*')", key) is not None


if os.environ.get("CHAOS_PASSING"):
    from tests.chaos.passing import declare

    declare(source, sink, tail)

if old_fault := os.environ.get("CHAOS_MUTANT"):
    from tests.chaos.mutants import put_back

    put_back(old_fault)
