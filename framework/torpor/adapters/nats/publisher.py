"""Publishing: a batch on its way at once, its confirmations counted in one inbox."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

from torpor.adapters.nats.connection import Sink
from torpor.adapters.nats.names import check_topic
from torpor.kernel import cloudevents
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from torpor.adapters.nats.connection import Connection
    from torpor.adapters.nats.streams import Streams
    from torpor.kernel.message import Message

_BURST_BYTES = 4 * 1024 * 1024  # on their way before the first confirmations are waited for
_MOST_HEADERS = 65_535  # a server's own limit, of which it tells only once a message was sent
_HEADER_FRAME = len(b"NATS/1.0\r\n\r\n")
_HEADER_LINE = len(b": \r\n")


class Publisher:
    """Publishes batches over a connection. A batch ends with it: what was not confirmed is the caller's to repeat."""

    def __init__(self, connection: Connection, streams: Streams) -> None:
        self._connection = connection
        self._streams = streams
        self._batches: dict[str, _Batch] = {}
        self._numbers = itertools.count()
        self._inbox = ""

    async def attach(self, client: Client) -> None:
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*.*", future=Sink(self._take))

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
        name = str(next(self._numbers))
        reply = f"{self._inbox}.{name}."
        limit = min(client.max_payload, options.max_payload or client.max_payload)
        self._batches[name] = batch
        burst = 0
        refused: set[str | None] = set()  # keys
        try:
            with self._connection.mapped():
                for index, message in enumerate(messages):
                    try:
                        if message.key is not None and message.key in refused:
                            raise Rejected(f"{message!r} follows a refused message of its key.")
                        headers, size = self._prepared(message, limit)
                    except Rejected as refusal:
                        batch.refusals[index] = refusal
                        refused.add(message.key)
                        continue
                    batch.send(index)
                    await client.publish(message.topic, message.data, reply=f"{reply}{index}", headers=headers)
                    burst += size
                    if batch.outstanding >= options.publish_window or burst > _BURST_BYTES:
                        await batch.wait(0 if burst > _BURST_BYTES else options.publish_window // 2)
                        burst = 0
                await batch.wait(0)
        finally:
            del self._batches[name]
        return batch.refusals

    def _prepared(self, message: Message, limit: int) -> tuple[dict[str, str], int]:
        """The headers of a message, and its size on the wire. Raises Rejected."""
        if message.topic not in self._streams.names:
            try:
                check_topic(message.topic)
            except ConfigurationError as error:
                raise Rejected(f"{message!r} is refused: {error.problems[0]}") from error
        headers = cloudevents.encode(message, cloudevents.NATS)
        headers["Nats-Msg-Id"] = headers["ce-id"]
        size = _HEADER_FRAME
        for name, value in headers.items():
            size += len(name) + len(value) + _HEADER_LINE
        if size > _MOST_HEADERS:
            raise Rejected(f"{message!r} has {size} bytes of headers, its key among them; NATS takes {_MOST_HEADERS}.")
        size += len(message.data)
        if size > limit:
            raise Rejected(
                f"{message!r} is {size} bytes with its headers, and NATS at {self._connection.servers} takes at most "
                f"{limit}. Send a reference instead, or raise max_payload there."
            )
        return headers, size

    def _take(self, answer: Msg) -> None:
        _, name, index = answer.subject.rsplit(".", 2)
        batch = self._batches.get(name)
        if batch is not None:
            batch.settle(int(index), answer)


class _Batch:
    """Messages on their way: what is outstanding, what was refused, and one future for whoever waits."""

    def __init__(self, messages: Sequence[Message], timeout: float, streams: Streams) -> None:
        self.outstanding = 0
        self.refusals: dict[int, Rejected] = {}
        self._messages = messages
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

    def settle(self, index: int, answer: Msg) -> None:
        """Notes the answer to a message; most say that it is stored."""
        if not self._pending[index]:
            return
        self._pending[index] = 0
        self.outstanding -= 1
        self._has_progress = True
        if answer.data[:9] != b'{"stream"':
            self._judge(index, answer)
        if self.outstanding <= self._most or self._failure is not None:
            self._wake()

    def refuse(self, subject: str) -> None:
        """Notes that the server lets nothing be published to a subject."""
        for index, message in enumerate(self._messages):
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
                f"Of {len(self._messages)} messages {self.outstanding} are not confirmed: {self._failure}."
            )

    def _expire(self) -> None:
        if not self._has_progress:
            self._failure = f"no confirmation for {self._timeout:g} s"
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _judge(self, index: int, answer: Msg) -> None:
        message = self._messages[index]
        if not answer.data:  # a status: nobody listens to the subject
            if message.topic in self._streams.names:
                self._streams.doubt()
                self._failure = f"no stream takes {message.topic!r} at the moment"
            else:
                self.refusals[index] = Rejected(f"No stream takes {message!r}. Declare its topic first.")
            return
        error = json.loads(answer.data).get("error") or {}
        code, told = error.get("code", 500), f"{error.get('description', answer.data[:200])}"
        if 400 <= code < 500:
            self.refusals[index] = Rejected(f"JetStream refuses {message!r}: {told}.")
        else:
            self._failure = f"JetStream cannot take {message!r}: {told}"
