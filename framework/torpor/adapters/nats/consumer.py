"""Consuming: pull requests ahead of need over one subscription, without a task or a timer for each message."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from torpor.adapters.nats.connection import API
from torpor.adapters.nats.frames import DESCRIPTION, PIN, STATUS, frame, read_envelope, read_headers
from torpor.adapters.nats.held import ACK, IN_PROGRESS, NAK, Held, key_of, sequence_of
from torpor.adapters.nats.pin import LOST, Pin, presence_of
from torpor.adapters.nats.progress import Gauge
from torpor.adapters.nats.wire import wire_of
from torpor.kernel import cloudevents
from torpor.kernel.errors import BrokerUnavailable, DecodeError, NotRunning, TorporError
from torpor.kernel.message import Delivery

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from nats.aio.client import Client

    from torpor.adapters.nats.connection import Connection
    from torpor.adapters.nats.frames import Raw
    from torpor.adapters.nats.held import Key
    from torpor.adapters.nats.streams import Streams
    from torpor.adapters.nats.wire import Listening, Wire
    from torpor.kernel.progress import Progress
    from torpor.ports.consumer import Subscription

_logger = logging.getLogger("torpor.nats")
_NANOSECONDS = 1_000_000_000
_EXPIRES = 30  # seconds that a pull request lives
_HEARTBEAT = 5  # seconds after which the server says that a pull request still lives
_SILENCE = 3 * _HEARTBEAT  # seconds after which it, or the connection, is dead
_LOOK = 1.0  # seconds between two looks at who has the pin
_NOBODY = "503"
_PAUSE = 0.1  # seconds between a refusal and the next pull request
_LONGEST_TURN = 10.0
_STOP_SECONDS = 2.0
_PASSING = ("batch completed", "message size exceeds", "leadership change", "server shutdown")


class JetStreamConsumer:
    """A live subscription: a durable pull consumer, and what was fetched from it ahead.

    `_credit` is what the server may still send. Unless the subscription is shared, the consumer stands by with a pull
    request for one message until that message tells it that it has the pin; it then has the durable reset, and pulls.
    One timer renews the pin, keeps what is held from being redelivered, and watches over the pull requests.
    """

    def __init__(self, subscription: Subscription, connection: Connection, streams: Streams) -> None:
        self.subscription = subscription
        self._connection = connection
        self._streams = streams
        self._window = connection.options.fetch_window
        self._stream, self._durable = streams.durable(subscription)
        self._gauge = Gauge(connection, subscription, stream=self._stream, durable=self._durable)
        self._held = Held()
        self._pin = None if subscription.is_shared else Pin(connection, self._stream, self._durable)
        self._is_active = subscription.is_shared
        self._is_look_due = True
        self._next = f"{API}.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        self._place = f".{self._stream}.{self._durable}.".lower()  # in the subjects of acknowledgements
        self._inbox = ""
        self._listening: Listening | None = None
        self._presence: Listening | None = None
        self._hearing: tuple[str, Listening] | None = None  # whether a holder is present, and under which subject
        self._is_mute = False  # not permitted to ask for a holder's presence
        self._buffer: deque[tuple[Key, bytes, bytes]] = deque()
        self._last_reply: bytes | None = None  # of what was acknowledged last on this connection
        self._credit = 0
        self._heard_at = 0.0  # the loop's time of the last sign of the pull requests
        self._trouble: str | None = None
        self._news = asyncio.Event()
        self._lost = asyncio.Event()
        self._is_stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._arriving: asyncio.Task[None] | None = None
        options = connection.options
        self._keeping = min(options.ack_wait / 3, _LONGEST_TURN)
        self._turn = self._keeping if self._pin is None else min(options.pin_timeout / 3, self._keeping, _LOOK)
        self._loop = asyncio.get_running_loop()
        self._keep_at = self._loop.time() + self._keeping
        self._timer = self._loop.call_later(self._turn, self._tick)

    async def attach(self, client: Client) -> None:
        self._forget_requests()
        self._lost.clear()
        self._trouble = None
        self._last_reply = None
        self._is_mute = False
        self._held.recall()
        if not self._is_stopped:
            await self._listen(wire_of(client))
        self._news.set()

    def detach(self) -> None:
        self._lost.set()
        self._listening = self._presence = self._hearing = None
        self._forget_requests()
        self._news.set()

    def refused(self, subject: str) -> None:
        if subject == self._next.lower() or (subject.startswith("$js.ack.") and self._place in subject):
            self._trouble = f"we are not permitted to publish to {subject}"
            self._news.set()
        elif self._pin is not None and self._pin.holder and subject == presence_of(self._pin.holder).lower():
            self._is_mute = True

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while True:
            self._news.clear()
            if self._is_stopped:
                raise NotRunning(f"The consumer of {self.subscription!r} has stopped.")
            if self._trouble is not None and not self._buffer:
                await self._recover()
            if not self._is_active:
                self._arriving = self._arriving or self._spawn(self._stand_by())
                await asyncio.shield(self._arriving)  # a cancelled fetch must not break a takeover off
            if self._is_active:
                await self._pull()
            if self._buffer:  # nothing is awaited from here on, so no delivery is lost to a cancellation
                return [self._read(*self._buffer.popleft()) for _ in range(min(limit, len(self._buffer)))]
            await self._news.wait()

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        replies = self._held.let_go([delivery.token for delivery in deliveries], acknowledged=True)
        if replies:
            self._last_reply = replies[-1]
        await self._settle(replies, ACK)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._settle(self._held.let_go([delivery.token for delivery in deliveries]), NAK)

    async def progress(self) -> Progress:
        return await self._gauge.read(is_active=self._is_active, held=len(self._held))

    async def stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        self._credit = 0
        self._news.set()
        listening, self._listening = self._listening, None
        if listening is not None:
            draining = asyncio.create_task(listening.drain())  # never cancelled
            draining.add_done_callback(_note)
            losing = asyncio.create_task(self._lost.wait())
            await asyncio.wait({draining, losing}, timeout=_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            losing.cancel()
        ahead = self._drop_ahead()
        if self._pin is None:
            await self._give_back(ahead)
        await self._leave_if_done()

    async def close(self) -> None:
        """Gives back all that is held: the broker stops."""
        await self.stop()
        if len(self._held):
            everything = self._held.let_all_go()
            if self._pin is None:
                await self._give_back(everything)
            await self._leave_if_done()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left."""
        return self._is_stopped and not len(self._held)

    async def _listen(self, wire: Wire) -> None:
        self._inbox = wire.new_inbox()
        self._listening = await wire.subscribe(f"{self._inbox}.*", self._take)

    def _forget_requests(self) -> None:
        """Stands by again, unless the subscription is shared: the connection or the pin is lost."""
        self._credit = 0
        if self._pin is not None:
            self._pin.drop()
            self._is_active = False
            self._is_look_due = True
            self._drop_ahead()

    def _drop_ahead(self) -> list[bytes]:
        """Forgets what was never handed out. It comes again."""
        ahead = self._held.let_go([key for key, _, _ in self._buffer])
        self._buffer.clear()
        return ahead

    async def _stand_by(self) -> None:
        """Keeps one pull request open until it brings the pin, and takes over then."""
        pin = self._pin
        if pin is None:
            return
        await self._connection.ready()
        if pin.id is not None:
            await self._take_over(pin, pin.id)
        elif not self._credit:
            await self._ask(1)
        if self._is_look_due and pin.id is None:
            self._is_look_due = False
            await pin.look()
            if pin.holder is not None and not self._is_mute:
                with self._connection.mapped():
                    await self._ask_after(pin.holder)

    async def _take_over(self, pin: Pin, id: str) -> None:
        """Has the server begin with the first unacknowledged message, and listens where nothing older can arrive."""
        inbox, listening, self._listening = self._inbox, self._listening, None
        with self._connection.mapped():
            if listening is not None:
                await listening.end()
            await self._be_present(id)
            if self._last_reply is not None:  # once it is answered, the acknowledgements before it are counted
                await self._connection.ask(self._last_reply.decode(), IN_PROGRESS)
            await pin.reset()
            if self._inbox != inbox or self._is_stopped or pin.id is None:  # the world has changed meanwhile
                return
            self._held.recall()
            self._credit = 0
            await self._listen(self._connection.wire)
        self._is_active = True

    async def _be_present(self, holder: str) -> None:
        """Lets those who stand by see that we are connected."""
        wire, former = self._connection.wire, self._presence
        self._presence = await wire.subscribe(presence_of(holder), self._answer)
        if former is not None:
            await former.end()

    async def _ask_after(self, holder: str) -> None:
        """Asks whether a holder is connected. The answer comes where who may ask may answer too."""
        wire = self._connection.wire
        if self._hearing is None:
            place = presence_of(wire.new_inbox().rpartition(".")[2])
            self._hearing = place, await wire.subscribe(f"{place}.*", self._hear)
        await wire.send([frame(presence_of(holder), b"", reply=f"{self._hearing[0]}.{holder}")])

    def _answer(self, questions: Sequence[Raw]) -> None:
        self._spawn(self._tell([reply for _, reply, _, _ in questions if reply], b""))

    def _hear(self, answers: Sequence[Raw]) -> None:
        """Learns whether holders are connected: from them, or from the server when nobody listens."""
        for subject, _, head, _ in answers:
            holder = subject.rpartition(b".")[2].decode()
            is_there = read_headers(head).get(STATUS) != _NOBODY
            if self._pin is not None and self._pin.hear(holder, is_there=is_there):
                self._is_look_due = True
        self._news.set()

    async def _pull(self) -> None:
        """Asks for more when half of the window is used up."""
        wanted = self._window - self._credit - len(self._buffer)
        if wanted * 2 < self._window or (self._buffer and not self._connection.is_up):
            return
        await self._connection.ready()
        if self._is_active:
            await self._ask(wanted)

    async def _ask(self, batch: int) -> None:
        self._credit += batch
        self._heard_at = self._loop.time()
        with self._connection.mapped():
            await self._request("pull", batch=batch, expires=_EXPIRES, idle_heartbeat=_HEARTBEAT * _NANOSECONDS)

    async def _request(self, name: str, *, expires: float, **more: int) -> None:
        request: dict[str, Any] = {"expires": int(expires * _NANOSECONDS), **more}
        if self._pin is not None:
            request |= self._pin.request()
        asked = frame(self._next, json.dumps(request).encode(), reply=f"{self._inbox}.{name}")
        await self._connection.wire.send([asked])

    def _take(self, messages: Sequence[Raw]) -> None:
        """Called by the client's reader, with deliveries and statuses."""
        self._heard_at = self._loop.time()
        held, ahead = self._held, self._buffer
        again: list[bytes] = []
        for subject, reply, head, payload in messages:
            if not reply:
                self._heed(subject, read_headers(head))
            elif self._is_active:
                self._credit -= 1
                key = key_of(reply)
                if held.is_settled(key):
                    again.append(reply)
                elif held.take(key, reply):
                    ahead.append((key, head, payload))
            else:
                self._credit = 0
                self._receive_pin(read_headers(head))
        if again:
            self._spawn(self._tell(again, ACK))
        self._news.set()

    def _receive_pin(self, headers: Mapping[str, str]) -> None:
        """Learns that it is the active consumer. The message comes again after the reset."""
        told = headers.get(PIN)
        if told is None:
            self._trouble = "another process has declared it as shared. Let all of a group share, or none"
        elif self._pin is not None:
            self._pin.id = told

    def _heed(self, subject: bytes, headers: Mapping[str, str]) -> None:
        """A status of a pull request."""
        code, told = headers.get(STATUS, ""), headers.get(DESCRIPTION, "")
        if code == LOST:
            if self._is_active:
                _logger.info("Another consumer of %s of stream %s has taken over.", self._durable, self._stream)
            self._forget_requests()
            return
        if code == "100" or subject.endswith(b".keep"):
            return
        left = headers.get("Nats-Pending-Messages", "")
        self._credit = max(0, self._credit - int(left)) if left.isdigit() else 0
        if code == _NOBODY or "deleted" in told.lower():
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

    def _read(self, key: Key, head: bytes, payload: bytes) -> Delivery:
        topic = self.subscription.topic
        envelope = read_envelope(head)
        if envelope:
            try:
                return Delivery(cloudevents.assemble(envelope, payload, topic), key)
            except DecodeError:
                pass  # told below
        headers = read_headers(head)
        headers.pop(PIN, None)
        position = f"{self._stream}:{sequence_of(key)}"
        read, fault = cloudevents.decode(headers, payload, topic=topic, position=position, style=cloudevents.NATS)
        return Delivery(read, key, fault=fault)

    async def _settle(self, replies: Sequence[bytes], word: bytes) -> None:
        await self._tell(replies, word)
        if self._is_stopped:
            await self._leave_if_done()

    async def _give_back(self, replies: Sequence[bytes]) -> None:
        try:
            await self._tell(replies, NAK)
        except TorporError as error:
            _logger.debug("%d deliveries come again after the ack wait: %s", len(replies), error)

    async def _tell(self, replies: Sequence[bytes], word: bytes) -> None:
        wire = self._connection.wire
        with self._connection.mapped():
            await wire.send([b"PUB %b %d\r\n%b\r\n" % (reply, len(word), word) for reply in replies])

    async def _leave_if_done(self) -> None:
        if not self.is_done:
            return
        self._timer.cancel()
        self._connection.remove(self)
        if self._pin is not None and self._pin.id is not None:
            if self._last_reply is not None:
                await self._confirm(self._last_reply)
            await self._pin.give_up()
        _, hearing = self._hearing or (None, None)
        for listening in (self._presence, hearing):
            if listening is not None:
                self._spawn(listening.end())
        self._presence = self._hearing = None

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(self._turn, self._tick)
        if not self._connection.is_up:
            return
        if self._is_stopped:
            pass  # who drains for longer than the pin timeout lets another take over meanwhile
        elif self._pin is not None and self._pin.id is not None:
            self._spawn(self._renew())
        elif self._pin is not None:
            self._is_look_due = True
            self._news.set()
        if now >= self._keep_at:
            self._keep_at = now + self._keeping
            self._spawn(self._tell(self._held.turn(), IN_PROGRESS))
        if self._credit > 0 and now - self._heard_at > _SILENCE:
            self._connection.renew(f"no heartbeat of consumer {self._durable!r} for {_SILENCE} s")

    async def _renew(self) -> None:
        """Renews the pin with a request that no message fits in."""
        with self._connection.mapped():
            await self._request("keep", batch=1, max_bytes=1, expires=self._turn)

    async def _confirm(self, reply: bytes) -> None:
        """Returns once the server has counted the acknowledgements that were sent."""
        try:
            await self._connection.ask(reply.decode(), IN_PROGRESS)
        except TorporError as error:
            _logger.debug("%s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task is self._arriving:
            self._arriving = None
        _note(task)

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else f"ahead={len(self._buffer)} credit={self._credit}"
        if not (self._is_active or self._is_stopped):
            state = "standing by"
        return f"<JetStreamConsumer {self._durable} of {self._stream} {state} held={len(self._held)}>"


def _note(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _logger.debug("%s", task.exception())
