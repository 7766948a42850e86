"""What passes through NATS and is not kept: core subjects, queue groups, and answers in an inbox."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from torpor.adapters.nats.frames import STATUS, frame, head_of, read_envelope, read_headers
from torpor.adapters.nats.names import check_topic
from torpor.adapters.nats.wire import wire_of
from torpor.kernel import cloudevents
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, DecodeError, Rejected
from torpor.ports.exchange import ExchangePromises, Heard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.aio.client import Client

    from torpor.adapters.nats.connection import Connection
    from torpor.adapters.nats.frames import Raw
    from torpor.adapters.nats.wire import Listening
    from torpor.kernel.message import Message
    from torpor.ports.exchange import Take

_MOST_HEADERS = 65_535
_GOODBYE = 2.0  # seconds, for a server that may be gone
_STORED = b'{"stream":'  # JetStream's own answer, from a stream that takes the subject


class CoreExchange:
    """The exchange on a connection. It keeps one inbox for all that it asks, from the first time on."""

    def __init__(self, connection: Connection) -> None:
        self.promises = ExchangePromises(keeps_order=True, tells_absence=True)
        self._connection = connection
        self._waiting: dict[str, tuple[str, asyncio.Future[Message | None]]] = {}
        self._tokens = itertools.count()
        self._inbox = ""
        self._opening = asyncio.Lock()
        self._is_open = False

    async def tell(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        client = self._connection.client
        refusals: dict[int, Rejected] = {}
        frames: list[bytes] = []
        for index, message in enumerate(messages):
            try:
                frames.append(self._framed(message, client))
            except Rejected as refusal:
                refusals[index] = refusal
        with self._connection.mapped():
            await wire_of(client).send(frames)
        return refusals

    async def listen(self, topic: str, group: str, take: Take) -> CoreListening:
        check_topic(topic)
        await self._connection.ready()
        listening = CoreListening(self._connection, topic, group=group, take=take)
        try:
            await self._connection.add(listening)
        except BrokerUnavailable:
            self._connection.remove(listening)
            raise
        return listening

    async def ask(self, request: Message) -> Message | None:
        client = await self._open()
        first: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        token = str(next(self._tokens))
        framed = self._framed(request, client, f"{self._inbox}.{token}")
        if self._connection.deafness:
            raise BrokerUnavailable(self._connection.deafness)
        self._waiting[token] = request.topic.lower(), first
        try:
            with self._connection.mapped():
                await wire_of(client).send([framed])
            return await first
        finally:
            del self._waiting[token]
            first.cancel()

    async def answer(self, heard: Heard, answer: Message) -> None:
        if heard.way is None:
            return
        client = await self._connection.ready()
        framed = self._framed(answer, client, subject=heard.way)
        with self._connection.mapped():
            await wire_of(client).send([framed])

    async def attach(self, client: Client) -> None:
        self._inbox = client.new_inbox()
        wire = wire_of(client)
        await wire.subscribe(f"{self._inbox}.*", self._take)
        await wire.round_trip()  # by then it is known whether we may

    def detach(self) -> None:
        for _, first in self._waiting.values():
            if not first.done():
                first.set_exception(
                    BrokerUnavailable(
                        f"The connection to NATS at {self._connection.servers} was lost before an answer came. "
                        "It is unknown whether the request was handled."
                    )
                )

    def refused(self, subject: str) -> None:
        for topic, first in self._waiting.values():
            if topic == subject and not first.done():
                first.set_exception(Rejected(f"NATS does not permit us to publish to {subject!r}."))

    async def _open(self) -> Client:
        """The client, which the inbox is on."""
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self._connection.ready()
                    await self._connection.add(self)
                    self._is_open = True
        return await self._connection.ready()

    def _take(self, answers: Sequence[Raw]) -> None:
        for raw in answers:
            _, first = self._waiting.get(raw[0].rpartition(b".")[2].decode(), ("", None))
            if first is not None and not first.done():
                self._settle(first, raw)

    def _settle(self, first: asyncio.Future[Message | None], raw: Raw) -> None:
        _, _, head, payload = raw
        if not payload and STATUS in read_headers(head):
            first.set_result(None)
        elif not head and payload.startswith(_STORED):
            first.set_exception(
                Rejected("A stream of JetStream takes the subject, and answers itself. Give the request another topic.")
            )
        else:
            first.set_result(_read(raw).message)

    def _framed(self, message: Message, client: Client, reply: str = "", *, subject: str | None = None) -> bytes:
        """A message as it is sent. Raises Rejected when it is too large, or its topic is no subject."""
        try:
            check_topic(message.topic)
        except ConfigurationError as error:
            raise Rejected(f"{message!r} is refused: {error.problems[0]}") from error
        head = head_of(cloudevents.encode(message, cloudevents.NATS))
        if len(head) > _MOST_HEADERS:
            raise Rejected(f"{message!r} has {len(head)} bytes of headers; NATS takes {_MOST_HEADERS}.")
        size = len(head) + len(message.data)
        limit = min(client.max_payload, self._connection.options.max_payload or client.max_payload)
        if size > limit:
            raise Rejected(
                f"{message!r} is {size} bytes with its headers, and NATS at {self._connection.servers} takes at most "
                f"{limit}. Send a reference instead, or raise max_payload there."
            )
        return frame(subject or message.topic, message.data, reply=reply, head=head)

    def __repr__(self) -> str:
        return f"<CoreExchange on {self._connection!r} waiting={len(self._waiting)}>"


class CoreListening:
    """A queue group's member. It subscribes on each client that follows."""

    def __init__(self, connection: Connection, topic: str, *, group: str, take: Take) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._places = {(topic.lower(), ""), (topic.lower(), group.lower())}  # as the server names them
        self._take = take
        self._listening: Listening | None = None

    async def attach(self, client: Client) -> None:
        wire = wire_of(client)
        self._connection.unheard.difference_update(self._places)
        self._listening = await wire.subscribe(self._topic, self._hear, queue=self._group)
        await wire.round_trip()  # who asks next finds us, or we know that we may not be found

    @property
    def trouble(self) -> str | None:
        """Why the server sends nothing."""
        if self._connection.unheard.isdisjoint(self._places):
            return None
        return (
            f"NATS at {self._connection.servers} does not permit us to subscribe to {self._topic!r} in the queue "
            f"{self._group!r}, so that nothing is heard. Allow it there: subscribe: {{allow: [{self._topic}]}}."
        )

    def detach(self) -> None:
        self._listening = None

    def refused(self, subject: str) -> None:
        """Nothing is published here."""

    async def stop(self) -> None:
        self._connection.remove(self)
        listening, self._listening = self._listening, None
        if listening is not None:
            draining = asyncio.create_task(self._drain(listening))  # never cancelled
            await asyncio.wait({draining}, timeout=_GOODBYE)

    async def _drain(self, listening: Listening) -> None:
        with contextlib.suppress(BrokerUnavailable), self._connection.mapped():
            await listening.drain()

    def _hear(self, arrived: Sequence[Raw]) -> None:
        for raw in arrived:
            self._take(_read(raw))

    def __repr__(self) -> str:
        return f"<CoreListening {self._topic} group={self._group}>"


def _read(raw: Raw) -> Heard:
    """What has come. A message without an envelope goes by where its answer goes: no place is its own."""
    subject, reply, head, payload = raw[0].decode(), raw[1].decode(), raw[2], raw[3]
    envelope = read_envelope(head)
    if envelope:
        with contextlib.suppress(DecodeError):  # told below
            return Heard(cloudevents.assemble(envelope, payload, subject), reply or None)
    message, fault = cloudevents.decode(
        read_headers(head), payload, topic=subject, position=reply or subject, style=cloudevents.NATS
    )
    return Heard(message, reply or None, fault=fault)
