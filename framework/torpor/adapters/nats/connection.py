"""One connection to NATS, made by FastStream and made again for ever when it is lost.

nats-py could reconnect by itself, but it would then send what it had buffered: a late publishing that overtakes the
repetition of an earlier one breaks the order. So a lost client is given up with all it holds, and a new one is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
from typing import TYPE_CHECKING, Any, Protocol

from torpor.adapters.nats.frames import Answer, frame
from torpor.adapters.nats.options import JetStreamOptions, Servers
from torpor.adapters.nats.security import Security
from torpor.adapters.nats.wire import install, wire_of
from torpor.kernel.errors import BrokerUnavailable, NotRunning, TorporError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping, Sequence

    from faststream.nats import NatsBroker
    from nats.aio.client import Client

    from torpor.adapters.nats.frames import Raw
    from torpor.adapters.nats.wire import Wire

API = "$JS.API"

_logger = logging.getLogger("torpor.nats")
_WATCH_SECONDS = 1.0
_RECONNECT_SECONDS = 0.25
_PING_SECONDS = 5  # two that stay unanswered end a connection that only looks alive
_STOP_SECONDS = 5.0
_HANDSHAKES = 12
_HUNG_UP = re.compile("reset by peer|broken pipe", re.IGNORECASE)
_ONCE = 0.5  # nats-py gives a server up after more failures than this
_REFUSED = re.compile(r'permissions violation for publish to "([^"]+)')
_UNHEARD = re.compile(r'permissions violation for subscription to "([^"]+)(?:" using queue "([^"]+))?')


class Attachment(Protocol):
    """What lives on a connection and moves to the next one."""

    async def attach(self, client: Client) -> None:
        """Subscribes on a client that has just connected, or on its wire. Raises nats-py's errors."""
        ...

    def detach(self) -> None:
        """Learns that the client is gone."""
        ...

    def refused(self, subject: str) -> None:
        """Learns that the server does not let us publish to a subject (in lower case)."""
        ...


class _Link:
    """One client, from its connecting to its end."""

    __slots__ = ("client", "connecting", "host", "last_error", "lost")

    def __init__(self) -> None:
        self.host: NatsBroker | None = None
        self.connecting: asyncio.Task[Client] | None = None
        self.client: Client | None = None
        self.last_error = ""
        self.lost = asyncio.Event()

    async def end(self) -> None:
        """Called when the connection has ended. nats-py reconnects once this returns: never, while it could."""
        self.lost.set()
        if self.client is not None and not self.client.is_closed:
            await asyncio.Event().wait()  # until `close` cancels it

    async def close(self) -> None:
        """Closes the client, after its connecting: that cannot be cancelled without leaving a socket behind."""
        if self.connecting is not None:
            await asyncio.wait({self.connecting})
            if not self.connecting.cancelled() and self.connecting.exception() is None:
                await self.connecting.result().close()


class Connection:
    """Holds the client that lives, and whoever lives on it."""

    def __init__(self, options: JetStreamOptions) -> None:
        self.options = options
        self.servers = Servers(options)
        self._security = Security(self.servers)
        self._attached: list[Attachment] = []
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._reason = "not connected yet"
        self._inbox = ""
        self._tokens = itertools.count()
        self._askers: dict[bytes, tuple[str, asyncio.Future[Answer]]] = {}
        self.deafness = ""  # why no answer can reach us
        self.unheard: set[tuple[str, str]] = set()  # subjects, in groups, that we may not subscribe to (in lower case)
        self._told: set[str] = set()  # refusals that are in the log
        self._farewells: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connects. Raises BrokerUnavailable within the connect timeout."""
        if self._keeper is None:
            await self._open()
            self._keeper = asyncio.create_task(self._keep(), name=f"torpor-nats-connection to {self.servers}")

    async def stop(self) -> None:
        """Sends what is buffered and disconnects. Repeatable."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        self._up.clear()
        link, self._link = self._link, None
        if link is not None and link.host is not None:
            await self._quietly(link.host.stop())
        self._dismiss(link)
        await asyncio.gather(*self._farewells)

    @property
    def client(self) -> Client:
        """The client, if it is connected now. Raises BrokerUnavailable or NotRunning."""
        client = self._link.client if self._link is not None else None
        if client is None or not client.is_connected:
            raise self._absence()
        return client

    @property
    def wire(self) -> Wire:
        """The wire of the client, if it is connected now. Raises BrokerUnavailable or NotRunning."""
        return wire_of(self.client)

    @property
    def is_up(self) -> bool:
        """Whether the client is connected, as far as it knows."""
        link = self._link
        return link is not None and link.client is not None and link.client.is_connected

    async def ready(self) -> Client:
        """The client, once it is connected. Waits for a lost one as long as for a new one, then raises."""
        if self.is_up:
            return self.client
        if self._keeper is None:
            raise self._absence()
        self.renew("the connection is closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.connect_timeout):
                await self._up.wait()
        return self.client

    def renew(self, reason: str) -> None:
        """Gives the client up, and has a new one made."""
        if self._link is not None and not self._link.lost.is_set():
            self._reason = reason
            self._up.clear()
            self._link.lost.set()

    async def add(self, attachment: Attachment) -> None:
        """Attaches to the client now, and to each that follows."""
        self._attached.append(attachment)
        if self._link is not None:
            with self.mapped():
                await attachment.attach(self.client)

    def remove(self, attachment: Attachment) -> None:
        """Attaches it no more."""
        with contextlib.suppress(ValueError):
            self._attached.remove(attachment)

    async def request(self, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Asks JetStream's API. Raises BrokerUnavailable; an error of its own is in the answer."""
        await self.ready()
        answer = await self.ask(f"{API}.{name}", json.dumps(body or {}).encode())
        if not answer.data:
            raise BrokerUnavailable(
                f"JetStream of NATS at {self.servers} does not answer {name.partition('.')[0]}. "
                "Is it enabled there (nats-server -js), for this account?"
            )
        told: dict[str, Any] = json.loads(answer.data)
        return told

    async def ask(self, subject: str, payload: bytes, *, head: bytes = b"") -> Answer:
        """The first answer to a message. Raises BrokerUnavailable."""
        if self.deafness:
            raise BrokerUnavailable(self.deafness)
        first: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        token = b"%d" % next(self._tokens)
        self._askers[token] = subject, first
        try:
            with self.mapped():
                await self.wire.send([frame(subject, payload, reply=f"{self._inbox}.{token.decode()}", head=head)])
                async with asyncio.timeout(self.options.request_timeout):
                    return await first
        finally:
            del self._askers[token]

    def _fail_askers(self, reason: str, refused: str | None = None) -> None:
        """Ends the waiting for answers; of those only who has asked what is refused (in lower case)."""
        for subject, first in self._askers.values():
            if not first.done() and refused in {None, subject.lower()}:
                first.set_exception(BrokerUnavailable(reason.format(subject=subject)))

    @contextlib.contextmanager
    def mapped(self) -> Iterator[None]:
        """Turns nats-py's errors into BrokerUnavailable."""
        from nats.errors import Error

        try:
            yield
        except (Error, OSError, TimeoutError, RuntimeError) as error:  # the last is uvloop's for a closed transport
            raise BrokerUnavailable(f"NATS at {self.servers} does not answer: {_told(error)}.") from error

    def _take(self, answers: Sequence[Raw]) -> None:
        for raw in answers:
            asked = self._askers.get(raw[0].rpartition(b".")[2])
            if asked is not None and not asked[1].done():
                asked[1].set_result(Answer(raw))

    async def _open(self) -> None:
        for tries_left in reversed(range(_HANDSHAKES)):
            link = _Link()
            link.host = self._make_host(link)  # imports FastStream the first time, which no timeout must count
            try:
                return await self._connect(link, link.host)
            except asyncio.CancelledError:
                self._dismiss(link)
                raise
            except Exception as error:  # whatever stumbles over what is no NATS server
                self._dismiss(link)
                reason = self._security.explained(link.last_error or _told(error))
                # A server that refuses us says why and hangs up; sometimes only the hanging up is seen.
                if not _HUNG_UP.search(reason) or not tries_left:
                    self._reason = reason
                    raise BrokerUnavailable(f"NATS at {self.servers} cannot be reached: {reason}.") from error
        return None

    async def _connect(self, link: _Link, host: NatsBroker) -> None:
        link.connecting = asyncio.create_task(host.connect())
        await asyncio.wait({link.connecting}, timeout=self.options.connect_timeout * len(self.servers.urls))
        if not link.connecting.done():
            raise TimeoutError("no answer")
        link.client = client = link.connecting.result()
        self._security.check()
        self._inbox, self.deafness = client.new_inbox(), ""
        self.unheard.clear()
        await install(client).subscribe(f"{self._inbox}.*", self._take)
        for attachment in self._attached:
            await attachment.attach(client)
        self._link = link
        self._up.set()

    def _make_host(self, link: _Link) -> NatsBroker:
        from faststream.nats import NatsBroker
        from nats.errors import Error

        async def complain(error: Exception) -> None:
            link.last_error = _told(error)
            self._security.begin()
            if self._up.is_set() or _UNHEARD.search(link.last_error):
                self._heed(link.last_error)
            if isinstance(error, Error) and error.args:
                # FastStream raises some errors from here, known by their text, and the socket would stay open.
                error.args = (f"nats: {link.last_error} (told)",)

        return NatsBroker(
            self.servers.urls,
            name=self.options.name,
            security=self._security.signing_in(),
            error_cb=complain,
            disconnected_cb=link.end,
            connect_timeout=self.options.connect_timeout * 0.75,  # type: ignore[arg-type]  # it hands on to wait_for
            max_reconnect_attempts=_ONCE,  # type: ignore[arg-type]  # compared with a count
            ping_interval=_PING_SECONDS,
            pending_size=0,  # publishing never waits for the socket; who publishes much keeps a window
            logger=None,
        )

    def _heed(self, text: str) -> None:
        """An error that the server told while we were connected."""
        refused = _REFUSED.search(text)
        if unheard := _UNHEARD.search(text):
            self._warn_once(text)
            self.unheard.add((unheard[1], unheard[2] or ""))
            if unheard[1].startswith("_inbox."):
                self.deafness = (
                    f"NATS at {self.servers} does not permit us to hear answers. Allow us to subscribe to _INBOX.>."
                )
                self._fail_askers(self.deafness)
        elif refused:
            _logger.warning("NATS at %s: %s", self.servers, text)
            told = f"NATS at {self.servers} does not permit us to publish to '{{subject}}'. Allow it."
            self._fail_askers(told, refused[1])
            for attachment in (*self._attached,):
                attachment.refused(refused[1])
        else:
            self._reason = text
            _logger.debug("NATS at %s: %s", self.servers, text)

    def _warn_once(self, text: str) -> None:
        level = logging.DEBUG if text in self._told else logging.WARNING
        if not text.startswith('permissions violation for subscription to "_inbox.'):  # of which each is another
            self._told.add(text)
        _logger.log(level, "NATS at %s: %s", self.servers, text)

    async def _keep(self) -> None:
        """Watches the client, and replaces it when it is gone."""
        while not self._is_leaving():
            link = self._link
            while link is not None and not link.lost.is_set() and self.is_up:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_SECONDS):
                        await link.lost.wait()
            self._up.clear()
            self._link = None
            _logger.warning("Lost the connection to NATS at %s: %s. Trying again.", self.servers, self._reason)
            for attachment in (*self._attached,):
                attachment.detach()
            self._fail_askers(f"The connection to NATS at {self.servers} was lost.")
            self._dismiss(link)
            await self._reopen()

    def _dismiss(self, link: _Link | None) -> None:
        """Closes a client that is given up, without waiting: on a broken network that can take long."""
        if link is not None:
            farewell = asyncio.create_task(self._quietly(link.close()))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

    async def _reopen(self) -> None:
        since = asyncio.get_running_loop().time()
        while not self._is_leaving():
            try:
                await self._open()
            except TorporError as error:
                _logger.debug("%s", error)
                await asyncio.sleep(_RECONNECT_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  # not to come all at once
            else:
                took = asyncio.get_running_loop().time() - since
                _logger.warning("Connected to NATS at %s again after %.1f s.", self.servers, took)
                return

    def _is_leaving(self) -> bool:
        """Whether the keeper shall end. Asked each turn: Python 3.11's wait_for may swallow its cancelling."""
        task = asyncio.current_task()
        return self._keeper is None or task is None or task.cancelling() > 0

    async def _quietly(self, farewell: Awaitable[None]) -> None:
        """Ends something that may be broken already."""
        from nats.errors import Error

        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await farewell
        except (Error, OSError, TimeoutError, RuntimeError) as error:
            _logger.debug("Closing the connection to NATS at %s: %s", self.servers, _told(error))

    def _absence(self) -> TorporError:
        if self._keeper is None:
            return NotRunning("The NATS broker is not running. Call start() first.")
        return BrokerUnavailable(f"NATS at {self.servers} is not connected: {self._reason}. It is tried again.")

    def __repr__(self) -> str:
        state = "up" if self._up.is_set() else "stopped" if self._keeper is None else "down"
        return f"<Connection to NATS at {self.servers} {state}>"


def _told(error: BaseException) -> str:
    """An error in short, without its type's or nats-py's prefix."""
    return str(error).removeprefix("nats: ").strip("'\" .") or type(error).__name__
