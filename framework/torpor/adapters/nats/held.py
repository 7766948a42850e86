"""What a consumer has been given and has not settled: kept from redelivery, and claimed back when its holder is dead.

JetStream gives what was lost with a connection or a process again only after the ack wait, and newer messages first.
To keep the order, a consumer that comes to a durable asks all processes what they hold of it (on the subject
`torpor.held.<stream>.<durable>`), and has the rest redelivered at once, before it pulls. So a process that drains or
works beside it keeps what it has in hand, and what a killed one held comes without delay.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from torpor.adapters.nats.connection import Sink
from torpor.kernel.errors import TorporError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from torpor.adapters.nats.connection import Connection

ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"
_NAK_LATER = b"-NAK 1s"

_logger = logging.getLogger("torpor.nats")
_ROLL_CALL_SECONDS = 0.2
_GHOST_SECONDS = 2.0
_POLL_SECONDS = 0.02
_MOST_RECLAIMED = 20_000
_MOST_REPEATED = 2_000
_LONG_REPLY = 11


class Held:
    """The unsettled deliveries of one consumer, by the reply subjects that settle them."""

    def __init__(self, connection: Connection, stream: str, durable: str) -> None:
        self._connection = connection
        self._stream, self._durable = stream, durable
        self._subject = f"torpor.held.{stream}.{durable}"
        self._name = uuid4().hex
        self._young: set[str] = set()  # given since the last turn
        self._old: set[str] = set()
        self._acknowledged: deque[str] = deque(maxlen=_MOST_REPEATED)  # which a lost connection may have swallowed
        self._answering: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, token: str) -> None:
        """Takes a delivery into hand."""
        self._young.add(token)

    async def settle(self, tokens: Sequence[str], word: bytes) -> None:
        """Lets deliveries go, and tells the server. Raises BrokerUnavailable: they may come again."""
        self._young.difference_update(tokens)
        self._old.difference_update(tokens)
        if word is ACK:
            self._acknowledged.extend(tokens)
        await self._tell(tokens, word)

    async def give_back(self, tokens: Sequence[str] | None = None) -> None:
        """Has deliveries, or all, redelivered to others, if the server can be told."""
        given = [*self._old, *self._young] if tokens is None else tokens
        if not given:
            return
        try:
            await self.settle(sorted(given, key=sequence_of), NAK)
        except TorporError as error:
            _logger.debug("%d deliveries come again after the ack wait: %s", len(given), error)

    def keep(self) -> None:
        """Tells the server of what was in hand a turn ago already that it is worked on. Called each turn."""
        if self._old and self._connection.is_up:
            self._spawn(self._tell([*self._old], IN_PROGRESS))
        self._old |= self._young
        self._young = set()

    async def attach(self, client: Client) -> None:
        """Answers for what is in hand, on a new connection."""
        self._answering = None
        if len(self):
            self._answering = await client.subscribe(self._subject, future=Sink(self._answer))

    async def leave(self) -> None:
        """Answers no more. Called once nothing will be in hand again."""
        answering, self._answering = self._answering, None
        if answering is None:
            return
        try:
            with self._connection.mapped():
                await answering.unsubscribe()
        except TorporError as error:
            _logger.debug("%s", error)

    async def reclaim(self) -> None:
        """Has redelivered, in order, what nobody holds. What was acknowledged lately is told once more."""
        await self._tell([*self._acknowledged], ACK)
        info, held = await self._roll_call()
        if info.get("num_ack_pending"):
            floor, last = info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]
            span = range(max(floor, last - _MOST_RECLAIMED) + 1, last + 1)
            prefix, suffix = f"$JS.ACK.{self._stream}.{self._durable}.1", f"{info['delivered']['consumer_seq']}.0.0"
            lost = [f"{prefix}.{sequence}.{suffix}" for sequence in span if sequence not in held]
            await self._tell(lost, _NAK_LATER)  # out of the server's queue of redeliveries, which is not in order,
            await self._tell(lost[:-1], NAK)  # and into it again
            for token in lost[-1:]:
                await self._connection.ask(token, NAK)  # once it answers, all before it are queued
        if self._answering is None:
            with self._connection.mapped():
                self._answering = await self._connection.client.subscribe(self._subject, future=Sink(self._answer))

    async def _roll_call(self) -> tuple[dict[str, Any], set[int]]:
        """The durable's state, and what is in hand of it anywhere."""
        held = {sequence_of(token) for token in (*self._old, *self._young)}
        info = await self._info()
        if not info.get("num_ack_pending") and not info.get("num_waiting"):
            return info, held
        answers = [json.loads(answer) for answer in await self._connection.ask_all(self._subject, _ROLL_CALL_SECONDS)]
        others = [answer for answer in answers if answer.get("name", self._name) != self._name]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GHOST_SECONDS
        while not others and info.get("num_waiting") and loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)  # a dead connection still takes deliveries, until the server notices
            info = await self._info()
        return info, held.union(*(answer["held"] for answer in others))

    async def _info(self) -> dict[str, Any]:
        return await self._connection.request(f"CONSUMER.INFO.{self._stream}.{self._durable}")

    def _answer(self, call: Msg) -> None:
        held = [sequence_of(token) for token in (*self._old, *self._young)]
        self._spawn(self._tell([call.reply], json.dumps({"name": self._name, "held": held}).encode()))

    async def _tell(self, subjects: Iterable[str], word: bytes) -> None:
        client = self._connection.client
        with self._connection.mapped():
            for subject in subjects:
                await client.publish(subject, word)

    def _spawn(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.debug("%s", task.exception())


def place_of(token: str) -> tuple[str, int]:
    """The stream and the sequence in a reply subject: $JS.ACK.[domain.account.]stream.consumer.delivered.sequence. …"""
    parts = token.split(".")
    at = 2 if len(parts) < _LONG_REPLY else 4
    return parts[at], int(parts[at + 3])


def sequence_of(token: str) -> int:
    """The sequence in a reply subject."""
    return place_of(token)[1]
