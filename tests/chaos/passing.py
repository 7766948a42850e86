"""What the services ask, answer and tell, where a broker carries what is not kept: on NATS.

POST /ask ─ source ─ chaos.asked ─▶ sink.reply ─ chaos.glanced ─▶ tail.glance
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torpor import Ask, Event, Request, Tx
from torpor.kernel.errors import BrokerUnavailable, NotAnswered, NotRunning, TimedOut

if TYPE_CHECKING:
    from torpor import Service

TIMEOUT = 2.0


class Asked(Request[int], topic="chaos.asked"):
    """A number that is asked for."""

    key: str
    number: int


class Glanced(Event, topic="chaos.glanced", key="key", durable=False):
    """What may be lost."""

    key: str
    number: int


def declare(source: Service, sink: Service, tail: Service) -> None:
    """Has the services ask, answer and hear."""

    @source.post("/ask/{key}/{number}")
    async def ask_sink(key: str, number: int, ask: Ask) -> str:
        """How a request has ended."""
        try:
            answer = await ask(Asked(key=key, number=number), timeout=TIMEOUT)
        except NotAnswered as error:
            return error.code
        except (TimedOut, BrokerUnavailable, NotRunning) as error:
            return type(error).__name__
        return "answered" if answer == number else f"answered with {answer}"

    @sink.answer(Asked, publishes=[Glanced])
    async def reply(request: Asked, tx: Tx) -> int:
        """Answers once it is written down."""
        tx.write("INSERT INTO reply VALUES ($1, $2, $3)", request.key, request.number, time.time())
        tx.publish(Glanced(key=request.key, number=request.number))
        return request.number

    @tail.on(Glanced)
    async def glance(event: Glanced, tx: Tx) -> None:
        """Notes what it happens to hear."""
        tx.write("INSERT INTO glance VALUES ($1, $2, $3)", event.key, event.number, time.time())
