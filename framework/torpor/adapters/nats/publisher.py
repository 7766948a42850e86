"""Publishing: a batch on its way at once, its confirmations counted in one inbox."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

from torpor.adapters.nats.frames import event_frame, event_head
from torpor.adapters.nats.names import check_topic
from torpor.adapters.nats.wire import wire_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.client import Client

    from torpor.adapters.nats.connection import Connection
    from torpor.adapters.nats.frames import Raw
    from torpor.adapters.nats.streams import Streams
    from torpor.kernel.message import Message

_BURST_BYTES = 4 * 1024 * 1024  # on their way before the first confirmations are waited for
_MOST_HEADERS = 65_535  # a server's own limit, of which it tells only once a message was sent
_TOGETHER = 128  # messages in a write


class Publisher:
    """Publishes batches over a connection. A batch ends with it: what was not confirmed is the caller's to repeat."""

    def __init__(self, connection: Connection, streams: Streams) -> None:
        self._connection = connection
        self._streams = streams
        self._batches: dict[bytes, _Batch] = {}
        self._numbers = itertools.count()
        self._inbox = ""

    async def attach(self, client: Client) -> None:
        self._inbox = client.new_inbox()
        await wire_of(client).subscribe(f"{self._inbox}.*.*", self._take, confirmed=self._confirm)

    def detach(self) -> None:
        for batch in self._batches.values():
            batch.fail(f"the connection to NATS at {self._connection.servers} was lost")

    def refused(self, subject: str) -> None:
        for batch in self._batches.values():
            batch.refuse(subject)

    async def publish(self, messages: Sequence[Message]) -> dict[int, Rejected]:
        """Publishes in order, and returns the refusals by index once all others are confirmed."""
        await self._streams.restore()
        client = await self._connection.ready()
        options = self._connection.options
        batch = _Batch(messages, options.publish_timeout, self._streams)
        name = b"%d" % next(self._numbers)
        limit = min(client.max_payload, options.max_payload or client.max_payload)
        self._batches[name] = batch
        try:
            with self._connection.mapped():
                await self._send(batch, f"{self._inbox}.{name.decode()}.", limit)
                await batch.wait(0)
        finally:
            del self._batches[name]
        return batch.refusals

    async def _send(self, batch: _Batch, reply: str, limit: int) -> None:
        """Sends what is not refused, many in a write, and never more than the window ahead of what is confirmed."""
        wire, window = self._connection.wire, self._connection.options.publish_window
        frames: list[bytes] = []
        burst = 0
        refused: set[str | None] = set()  # keys
        for index, message in enumerate(batch.messages):
            try:
                if refused and message.key is not None and message.key in refused:
                    raise Rejected(f"{message!r} follows a refused message of its key.")
                framed = self._framed(message, f"{reply}{index}", limit)
            except Rejected as refusal:
                batch.refusals[index] = refusal
                refused.add(message.key)
                continue
            batch.send(index)
            frames.append(framed)
            burst += len(framed)
            is_full = batch.outstanding >= window or burst > _BURST_BYTES
            if is_full or len(frames) == _TOGETHER:
                await wire.send(frames)
                frames.clear()
                await asyncio.sleep(0)  # so that the client writes them while the next are put together
            if is_full:
                await batch.wait(0 if burst > _BURST_BYTES else window // 2)
                burst = 0
        await wire.send(frames)

    def _framed(self, message: Message, reply: str, limit: int) -> bytes:
        """A message as it is sent. Raises Rejected."""
        if message.topic not in self._streams.names:
            try:
                check_topic(message.topic)
            except ConfigurationError as error:
                raise Rejected(f"{message!r} is refused: {error.problems[0]}") from error
        head = event_head(message)
        if len(head) > _MOST_HEADERS:
            raise Rejected(
                f"{message!r} has {len(head)} bytes of headers, its key among them; NATS takes {_MOST_HEADERS}."
            )
        size = len(head) + len(message.data)
        if size > limit:
            raise Rejected(
                f"{message!r} is {size} bytes with its headers, and NATS at {self._connection.servers} takes at most "
                f"{limit}. Send a reference instead, or raise max_payload there."
            )
        return event_frame(message, head, reply)

    def _take(self, answers: Sequence[Raw]) -> None:
        for subject, _, _, payload in answers:
            _, name, index = subject.rsplit(b".", 2)
            batch = self._batches.get(name)
            if batch is not None:
                batch.settle(int(index), payload)

    def _confirm(self, places: Sequence[tuple[bytes, bytes]]) -> None:
        for name in {name for name, _ in places}:
            batch = self._batches.get(name)
            if batch is not None:
                batch.stored([int(index) for own, index in places if own == name])


class _Batch:
    """Messages on their way: what is outstanding, what was refused, and one future for whoever waits."""

    def __init__(self, messages: Sequence[Message], timeout: float, streams: Streams) -> None:
        self.outstanding = 0
        self.refusals: dict[int, Rejected] = {}
        self.messages = messages
        self._pending = bytearray(len(messages))
        self._streams = streams
        self._timeout = timeout
        self._most = 0
        self._has_progress = False
        self._failure: str | None = None
        self._waiter: asyncio.Future[None] | None = None

    def send(self, index: int) -> None:
        self._pending[index] = 1
        self.outstanding += 1

    def settle(self, index: int, answer: bytes) -> None:
        """Notes the answer to a message, which is perhaps not stored."""
        if self._pending[index]:
            if answer[:9] != b'{"stream"':
                self._judge(index, answer)
            self.stored([index])

    def stored(self, indexes: Sequence[int]) -> None:
        """Notes that messages need not be waited for any longer."""
        pending, before = self._pending, self.outstanding
        for index in indexes:
            self.outstanding -= pending[index]
            pending[index] = 0
        if self.outstanding < before:
            self._has_progress = True
        if self.outstanding <= self._most or self._failure is not None:
            self._wake()

    def refuse(self, subject: str) -> None:
        """Notes that the server lets nothing be published to a subject."""
        for index, message in enumerate(self.messages):
            if self._pending[index] and message.topic.lower() == subject:
                self._pending[index] = 0
                self.outstanding -= 1
                self.refusals[index] = Rejected(f"NATS does not permit us to publish {message!r}.")
        self._wake()

    def fail(self, reason: str) -> None:
        """Notes that it is unknown what arrived."""
        self._failure = reason
        self._wake()

    async def wait(self, most: int) -> None:
        """Waits until at most so many are outstanding. Raises BrokerUnavailable, without progress at the latest."""
        self._most = most
        while self.outstanding > most and self._failure is None:
            loop = asyncio.get_running_loop()
            self._has_progress = False
            self._waiter = loop.create_future()
            timer = loop.call_later(self._timeout, self._expire)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._failure is not None:
            raise BrokerUnavailable(
                f"Of {len(self.messages)} messages {self.outstanding} are not confirmed: {self._failure}."
            )

    def _expire(self) -> None:
        if not self._has_progress:
            self._failure = f"no confirmation for {self._timeout:g} s"
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _judge(self, index: int, answer: bytes) -> None:
        message = self.messages[index]
        if not answer:  # a status: nobody listens to the subject
            if message.topic in self._streams.names:
                self._streams.doubt()
                self._failure = f"no stream takes {message.topic!r} at the moment"
            else:
                self.refusals[index] = Rejected(f"No stream takes {message!r}. Declare its topic first.")
            return
        error = json.loads(answer).get("error") or {}
        code, told = error.get("code", 500), f"{error.get('description', answer[:200])}"
        if 400 <= code < 500:
            self.refusals[index] = Rejected(f"JetStream refuses {message!r}: {told}.")
        else:
            self._failure = f"JetStream cannot take {message!r}: {told}"
