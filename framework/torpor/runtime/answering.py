"""Answering: the requests of one binding, each handled once, while somebody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from torpor.contract.answer import AnswerCodec
from torpor.contract.codec import decode
from torpor.kernel.errors import BrokerUnavailable, DecodeError, NotRunning, Rejected, StoreUnavailable
from torpor.kernel.message import Message, shown
from torpor.runtime.asking import CODE, TIMEOUT

if TYPE_CHECKING:
    from torpor.ports.exchange import Exchange, Heard
    from torpor.runtime.context import Context
    from torpor.runtime.plan import AnswererBinding
    from torpor.runtime.single import Single

MOST_WAITING = 20_000


class Unanswered(Exception):  # an answer on its way to the caller, not an error that is raised to anybody
    """Why there is no answer, in words for the caller."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Answering:
    """Handles requests, so many at a time, first come first served. One whose caller has given up is not begun."""

    def __init__(self, binding: AnswererBinding, single: Single, *, exchange: Exchange, context: Context) -> None:
        self._binding = binding
        self._single = single
        self._exchange = exchange
        self._context = context
        self._codec = AnswerCodec(binding.answer)
        self._numbers = context.metrics.of(binding.handled.name)
        self._log = logging.getLogger(f"torpor.{binding.handled.service}")
        self._waiting: deque[tuple[Heard, float]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def under_way(self) -> int:
        """How many requests wait or are being handled."""
        return len(self._waiting) + self._numbers.in_flight

    def take(self, heard: Heard) -> None:
        """Queues a request. When too many wait, the one that has waited longest is let go."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._numbers.lost += 1
        self._waiting.append((heard, self._context.clock.time()))
        self._idle.clear()
        if len(self._tasks) < self._binding.concurrency:
            task = self._context.health.watch(self._binding.handled.name, self._work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def drained(self) -> None:
        """Waits until all that was taken is answered."""
        await self._idle.wait()

    def abandon(self) -> None:
        """Lets go of all that is not answered."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks and not self._waiting:
            self._idle.set()

    async def _work(self) -> None:
        while self._waiting:
            heard, at = self._waiting.popleft()
            if self._context.clock.time() >= at + _seconds(heard.message):
                self._numbers.lost += 1
                continue
            self._numbers.in_flight += 1
            try:
                await self._answer(heard)
            finally:
                self._numbers.in_flight -= 1

    async def _answer(self, heard: Heard) -> None:
        started = self._context.clock.time()
        try:
            data, attributes = (
                self._codec.encode(await self._handle(heard)),
                {"datacontenttype": self._codec.content_type},
            )
            await self._send(heard, data, attributes)
        except (Unanswered, TypeError) as error:
            self._numbers.failed += 1
            await self._refuse(heard, error)
        except Rejected as error:
            self._numbers.failed += 1
            self._log.error("%s made an answer that cannot be sent: %s", self._binding.handled.name, error)
            await self._refuse(heard, Unanswered("oversized", "the answer is too large for the broker."))
        except BrokerUnavailable:  # the caller learns of it by himself, and the host's ping tells
            self._numbers.lost += 1
        else:
            self._numbers.done += 1
        self._numbers.seconds.observe(self._context.clock.time() - started)

    async def _handle(self, heard: Heard) -> Any:
        """What the handler returns. Raises Unanswered: nothing of the handler's own error leaves this process."""
        name, message = self._binding.handled.name, heard.message
        try:
            if heard.fault is not None:
                raise DecodeError(heard.fault)
            payload = decode(self._binding.contract, message)
        except DecodeError as error:
            self._log.warning("%s cannot read request %s: %s", name, shown(message.id), error)
            raise Unanswered("undecodable", f"{name} cannot read it: {error}") from error
        try:
            return await self._single.run(message, payload)
        except (StoreUnavailable, BrokerUnavailable, NotRunning) as error:
            self._log.warning("%s cannot answer request %s: %s", name, shown(message.id), error)
            raise Unanswered("unavailable", f"{name} is unavailable at the moment. Ask again.") from error
        except Exception as error:
            self._log.exception("%s failed on request %s", name, shown(message.id))
            raise Unanswered("failed", f"{name} failed. Its log tells why.") from error

    async def _refuse(self, heard: Heard, error: Exception) -> None:
        name = self._binding.handled.name
        if not isinstance(error, Unanswered):  # the handler returned what its annotation does not say
            self._log.error("%s answered request %s with another type: %s", name, shown(heard.message.id), error)
            error = Unanswered("failed", f"{name} failed. Its log tells why.")
        attributes = {"datacontenttype": "text/plain", CODE: error.code}
        try:
            await self._send(heard, str(error).encode(), attributes)
        except (BrokerUnavailable, Rejected):
            self._numbers.lost += 1

    async def _send(self, heard: Heard, data: bytes, attributes: dict[str, str]) -> None:
        envelope, request = self._context.envelope, heard.message
        answer = Message(
            request.topic,
            data,
            id=envelope.new_id(),
            type=f"{self._binding.contract.__torpor_type__}.answer",
            attributes={**envelope.attributes(request), **attributes},
        )
        await self._exchange.answer(heard, answer)


def _seconds(request: Message) -> float:
    """How long its caller waits."""
    try:
        return float(request.attributes.get(TIMEOUT, "inf"))
    except ValueError:
        return float("inf")
