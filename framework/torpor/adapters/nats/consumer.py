"""Consuming: pull requests ahead of need over one subscription, without a task or a timer for each message."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from typing import TYPE_CHECKING

from torpor.adapters.nats.connection import API, Sink
from torpor.adapters.nats.held import ACK, NAK, Held, place_of
from torpor.kernel import cloudevents
from torpor.kernel.errors import BrokerUnavailable, NotRunning
from torpor.kernel.message import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription as ClientSubscription

    from torpor.adapters.nats.connection import Connection
    from torpor.adapters.nats.streams import Streams
    from torpor.ports.consumer import Subscription

_logger = logging.getLogger("torpor.nats")
_NANOSECONDS = 1_000_000_000
_EXPIRES = 30  # seconds that a pull request lives
_HEARTBEAT = 5  # seconds after which the server says that a pull request still lives
_SILENCE = 3 * _HEARTBEAT  # seconds after which it, or the connection, is dead
_PAUSE = 0.1  # seconds between a refusal and the next pull request
_LONGEST_TURN = 10.0
_STOP_SECONDS = 2.0
_PASSING = ("batch completed", "message size exceeds", "leadership change", "server shutdown")


class JetStreamConsumer:
    """A live subscription: a durable pull consumer, and what was fetched from it ahead.

    `_credit` is what the server may still send. One timer, at each third of the ack wait, keeps what is held from being
    redelivered, and watches over the pull requests.
    """

    def __init__(self, subscription: Subscription, connection: Connection, streams: Streams) -> None:
        self.subscription = subscription
        self._connection = connection
        self._streams = streams
        self._window = connection.options.fetch_window
        self._stream, self._durable = streams.durable(subscription)
        self._held = Held(connection, self._stream, self._durable)
        self._next = f"{API}.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        self._inbox = ""
        self._listening: ClientSubscription | None = None
        self._buffer: deque[Msg] = deque()
        self._credit = 0
        self._heard_at = 0.0  # the loop's time of the last sign of the pull requests
        self._is_settled_in = False
        self._trouble: str | None = None
        self._news = asyncio.Event()
        self._lost = asyncio.Event()
        self._is_stopped = False
        self._turn = min(connection.options.ack_wait / 3, _LONGEST_TURN)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._turn, self._tick)

    async def attach(self, client: Client) -> None:
        self._credit = 0  # pull requests are forgotten with their connection
        self._lost.clear()
        self._trouble = None
        self._is_settled_in = False
        await self._held.attach(client)
        if not self._is_stopped:
            self._inbox = client.new_inbox()
            self._listening = await client.subscribe(f"{self._inbox}.*", future=Sink(self._take))
        self._news.set()

    def detach(self) -> None:
        self._lost.set()
        self._credit = 0
        self._listening = None
        self._news.set()

    def refused(self, subject: str) -> None:
        if subject == self._next.lower():
            self._trouble = f"we are not permitted to publish to {self._next}"
            self._news.set()

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while True:
            self._news.clear()
            if self._is_stopped:
                raise NotRunning(f"The consumer of {self.subscription!r} has stopped.")
            if self._trouble is not None and not self._buffer:
                await self._recover()
            await self._pull()
            if self._buffer:  # nothing is awaited from here on, so no delivery is lost to a cancellation
                return [self._read(self._buffer.popleft()) for _ in range(min(limit, len(self._buffer)))]
            await self._news.wait()

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        await self._settle(deliveries, ACK)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._settle(deliveries, NAK)

    async def stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        self._news.set()
        listening, self._listening = self._listening, None
        if listening is not None:
            # It ends the interest and waits for what is still on its way. Never cancelled: nats-py's reader would
            # stumble over the cancelled ping.
            draining = asyncio.create_task(listening.drain())  # type: ignore[no-untyped-call]
            draining.add_done_callback(_note)
            losing = asyncio.create_task(self._lost.wait())
            await asyncio.wait({draining, losing}, timeout=_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            losing.cancel()
        await self._held.give_back([message.reply for message in self._buffer])
        self._buffer.clear()
        await self._leave_if_done()

    async def close(self) -> None:
        """Gives back all that is held: the broker stops."""
        await self.stop()
        await self._held.give_back()
        await self._leave_if_done()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left."""
        return self._is_stopped and not len(self._held)

    async def _pull(self) -> None:
        """Asks for more when half of the window is used up."""
        wanted = self._window - self._credit - len(self._buffer)
        if wanted * 2 < self._window or (self._buffer and not (self._connection.is_up and self._is_settled_in)):
            return
        await self._connection.ready()
        if not self._is_settled_in:
            inbox = self._inbox
            await self._held.reclaim()
            if self._inbox != inbox or self._is_stopped:  # the world has changed meanwhile
                await self._leave_if_done()
                self._news.set()
                return
            self._is_settled_in = True
        request = {"batch": wanted, "expires": _EXPIRES * _NANOSECONDS, "idle_heartbeat": _HEARTBEAT * _NANOSECONDS}
        self._credit += wanted
        self._heard_at = self._loop.time()
        with self._connection.mapped():
            await self._connection.client.publish(self._next, json.dumps(request).encode(), reply=f"{self._inbox}.pull")

    def _take(self, message: Msg) -> None:
        """Called by the client's reader, for a delivery or for a status."""
        self._heard_at = self._loop.time()
        if message.reply:
            self._credit -= 1
            self._held.add(message.reply)
            self._buffer.append(message)
        else:
            self._heed(message)
        self._news.set()

    def _heed(self, status: Msg) -> None:
        headers = status.headers or {}
        code, told = headers.get("Status", ""), (headers.get("Description") or "").strip()
        if code == "100":
            return
        left = headers.get("Nats-Pending-Messages", "")
        self._credit = max(0, self._credit - int(left)) if left.isdigit() else 0
        if code == "503" or "deleted" in told.lower():
            self._streams.doubt()
            self._trouble = f"{code}: it was deleted, or its stream has no leader"
        elif code not in {"404", "408"}:
            self._trouble = f"{code} {told}"

    async def _recover(self) -> None:
        """Waits a little after a refusal, and makes again what somebody deleted. Raises BrokerUnavailable when the
        reason will not pass by itself."""
        trouble, self._trouble = self._trouble or "", None
        await asyncio.sleep(_PAUSE)
        if self._streams.is_doubtful:
            _logger.info("Consumer %s of stream %s is declared again: %s", self._durable, self._stream, trouble)
            await self._streams.restore()
        elif not any(reason in trouble.lower() for reason in _PASSING):
            raise BrokerUnavailable(f"Consumer {self._durable!r} of stream {self._stream!r} is refused: {trouble}.")

    def _read(self, message: Msg) -> Delivery:
        stream, sequence = place_of(message.reply)
        read, fault = cloudevents.decode(
            message.headers,
            message.data,
            topic=self.subscription.topic,
            position=f"{stream}:{sequence}",
            style=cloudevents.NATS,
        )
        return Delivery(read, message.reply, fault=fault)

    async def _settle(self, deliveries: Sequence[Delivery], word: bytes) -> None:
        await self._held.settle([delivery.token for delivery in deliveries], word)
        if self._is_stopped:
            await self._leave_if_done()

    async def _leave_if_done(self) -> None:
        if self.is_done:
            self._timer.cancel()
            self._connection.remove(self)
            await self._held.leave()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._turn, self._tick)
        self._held.keep()
        if self._credit > 0 and self._connection.is_up and self._loop.time() - self._heard_at > _SILENCE:
            self._connection.renew(f"no heartbeat of consumer {self._durable!r} for {_SILENCE} s")

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else f"ahead={len(self._buffer)} credit={self._credit}"
        return f"<JetStreamConsumer {self._durable} of {self._stream} {state} held={len(self._held)}>"


def _note(draining: asyncio.Task[None]) -> None:
    if not draining.cancelled() and draining.exception() is not None:
        _logger.debug("A subscription did not end in order: %s", draining.exception())
