"""The switchboard: lets clients of one service in, handles what they say, and says goodbye."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import BrokerUnavailable, CircuitOpen, DecodeError, NotRunning, StoreUnavailable, TimedOut
from torpor.kernel.frames import FAILED, GOING_AWAY, INVALID, LATER, PING, POLICY, frame
from torpor.runtime.connection import Socket
from torpor.runtime.ids import new_id
from torpor.runtime.peer import GONE, HEARD, PINGED, SILENT, Effects, Opening, Peer, Refused
from torpor.runtime.registry import Registry
from torpor.runtime.sockets import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.ports.exchange import Exchange
    from torpor.runtime.context import Context
    from torpor.runtime.peer import Wire
    from torpor.runtime.plan import Handled, Plan, SocketBinding, SocketHandler
    from torpor.runtime.responding import Responder

_AT_ONCE = 64  # handlers that run side by side, for all connections
_SLICE = 200  # connections that are looked at before others have a turn
_MOST_UNREAD, _FEW_UNREAD = 16, 4  # messages of one connection
_BAD_REQUEST, _FAILURE, _UNAVAILABLE, _TOO_LATE = 400, 500, 503, 504
_LEAVING_A_SECOND = 2000
_PASSING = (StoreUnavailable, BrokerUnavailable, NotRunning, CircuitOpen, TimedOut)


class _Late(Exception):  # a handler that was given up
    """A handler was not done within its `Timeout`."""


class Switchboard:
    """Handles what clients send, and passes on what they are sent. One handler call at a time for each connection."""

    def __init__(
        self, plan: Plan, exchange: Exchange | None, *, responder: Callable[[Handled], Responder], context: Context
    ) -> None:
        self._plan = plan
        self._responder = responder
        self._context = context
        self._numbers = context.metrics
        self._log = logging.getLogger(f"torpor.{plan.name}")
        self.registry = Registry(plan.name, exchange, context)
        self._ready: deque[Peer] = deque()
        self._working: set[asyncio.Task[None]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_open = False

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs, and nothing is on its way."""
        return not self._working and self.registry.is_idle

    async def open(self) -> None:
        """Begins to take connections. Raises BrokerUnavailable, and may be called again then."""
        await self.registry.open()
        for binding in self._plan.sockets:
            self._spawn(binding.handled.name, self._watch(binding))
        self._is_open = True

    async def admit(self, binding: SocketBinding, wire: Wire, opening: Opening) -> Peer:
        """A client that has passed the guard, once the handler of its connecting has run. Raises Refused."""
        if not self._is_open:
            raise Refused(_UNAVAILABLE, "The service is starting or stopping.")
        if len(self.registry) >= binding.limits.connections:
            self._numbers.drop("full")
            raise Refused(_UNAVAILABLE, "This process takes no more connections.")
        peer = Peer(binding, wire, opening, id=new_id())
        peer.held = Effects(is_held=True)
        if binding.connect is not None:
            try:
                await self._run(binding.connect, peer, peer.held)
            except Exception as error:
                raise self._refused(binding.connect, error) from error
        if not self._is_open:
            raise Refused(_UNAVAILABLE, "The service is stopping.")
        return peer

    def accepted(self, peer: Peer) -> None:
        """The client's upgrade has been answered."""
        self.registry.add(peer)
        held, peer.held = peer.held, None
        if held is not None:
            held.release()

    def received(self, peer: Peer, payload: str | bytes) -> None:
        """A client has sent a message."""
        if not self.heard(peer):
            return
        if peer.inbox is None:
            peer.inbox = []
            self._queue(peer)
        peer.inbox.append(payload)
        if len(peer.inbox) == _MOST_UNREAD:
            peer.wire.pause()

    def heard(self, peer: Peer) -> bool:
        """A client has shown that it is there; whether that is within its rate."""
        peer.state = HEARD
        if peer.takes(asyncio.get_running_loop().time()):
            return True
        self._numbers.drop("rate")
        peer.wire.close(POLICY, "too many messages")
        return False

    def left(self, peer: Peer, code: int) -> None:
        """A client is gone, or on its way out. Its last messages are still handled."""
        if not self.registry.remove(peer):
            return
        peer.close_code = code
        if peer.binding.disconnect is not None:
            if peer.inbox is None:
                peer.inbox = []
                self._queue(peer)
            peer.inbox.append(GONE)

    def dropped(self, peer: Peer, reason: str) -> None:
        """Counts a client that is closed because of what it does, or does not."""
        self._numbers.drop(reason)
        self._log.info("connection %s of %s is dropped: %s", peer.id, peer.binding.path, reason)

    async def retire(self) -> None:
        """Takes no connection more, and says goodbye to those that there are, not to all at once."""
        if self._is_open:
            self._is_open = False
            self._spawn("leaving", self._say_goodbye())
        await self.registry.close()

    async def drained(self) -> None:
        """Waits until everybody is gone, and all that they sent is handled."""
        if (leaving := self._tasks.get("leaving")) is not None:
            await asyncio.wait({leaving})
        while len(self.registry) or self._working:
            await asyncio.wait(self._working, timeout=0.05) if self._working else await asyncio.sleep(0.02)
        await self.registry.close()

    async def close(self) -> None:
        """Lets go of who is still there."""
        for peer in self.registry.peers:
            peer.wire.abort()
        tasks = [*self._tasks.values(), *self._working]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, name: str, work: Any) -> None:
        task = self._context.health.watch(f"sockets.{name}", work)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    def _queue(self, peer: Peer) -> None:
        self._ready.append(peer)
        if len(self._working) < _AT_ONCE:
            task = self._context.health.watch("sockets", self._work())
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self) -> None:
        while self._ready:
            peer = self._ready.popleft()
            if peer.inbox:
                await self._handle(peer, peer.inbox[0])
                del peer.inbox[0]
                if len(peer.inbox) == _FEW_UNREAD:
                    peer.wire.resume()
            if peer.inbox:
                self._ready.append(peer)
            else:
                peer.inbox = None
                if peer.is_leaving:
                    peer.wire.close(GOING_AWAY, "the service is stopping")

    async def _handle(self, peer: Peer, payload: Any) -> None:
        binding = peer.binding
        try:
            if payload is GONE:
                if binding.disconnect is not None:
                    await self._run(binding.disconnect, peer, Effects(is_held=binding.disconnect.uses_tx))
                return
            effects = Effects(is_held=binding.message.uses_tx)
            answer = await self._run(binding.message, peer, effects, {binding.parameter: binding.read(payload)})
            if answer is not None:
                for one in answer if isinstance(answer, list) else [answer]:
                    self.registry.write(peer, frame(*encoded(one)))
        except DecodeError as error:
            self._numbers.of(binding.handled.name).failed += 1
            peer.wire.close(INVALID, str(error))
        except _Late:
            peer.wire.close(LATER, "it took too long")
        except _PASSING as error:
            self._log.warning("%s on a message of %s: %s", binding.handled.name, peer.id, error)
            peer.wire.close(LATER, "try again soon")
        except Exception:  # noqa: BLE001  # whatever a handler raises is told, and costs its own client alone
            self._log.exception("%s failed on a message of connection %s", binding.handled.name, peer.id)
            peer.wire.close(FAILED, "it failed")

    async def _run(
        self, handler: SocketHandler, peer: Peer, effects: Effects, given: dict[str, Any] | None = None
    ) -> Any:
        arguments = given or {}
        arguments.update((name, peer.opening.parameters[name]) for name in handler.names)
        if handler.socket is not None:
            arguments[handler.socket] = Socket(self.registry, peer, effects)
        if peer.binding.seconds is None:
            answer = await self._responder(handler.handled).respond(arguments, caller=peer.opening.caller)
        else:
            answer = await self._timed(handler, arguments, peer)
        if effects is not peer.held:
            effects.release()
        return answer

    async def _timed(self, handler: SocketHandler, arguments: dict[str, Any], peer: Peer) -> Any:
        """What the handler returns, unless its time is up: it is cancelled then, and its unit undone."""
        deadline = asyncio.timeout(peer.binding.seconds)
        try:
            async with deadline:
                return await self._responder(handler.handled).respond(arguments, caller=peer.opening.caller)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            self._numbers.of(handler.handled.name).failed += 1
            self._log.warning(
                "%s was given up after %g s, the limit of its Timeout", handler.handled.name, peer.binding.seconds
            )
            raise _Late from error

    def _refused(self, handler: SocketHandler, error: Exception) -> Refused:
        status = getattr(error, "status_code", _FAILURE)
        if isinstance(error, _Late):
            return Refused(_TOO_LATE, "This was not done in time, and was given up.")
        if isinstance(error, _PASSING):
            return Refused(_UNAVAILABLE, "Try again soon.")
        if _BAD_REQUEST <= status < _FAILURE:
            return Refused(status, str(getattr(error, "detail", "Refused.")))
        self._log.error("%s failed", handler.handled.name, exc_info=error)
        return Refused(_FAILURE, "Internal Server Error")

    async def _watch(self, binding: SocketBinding) -> None:
        """Pings whoever was silent since the last look, and drops whoever has been pinged then."""
        ping = frame(PING, b"")
        while True:
            await self._context.clock.sleep(binding.limits.heartbeat)
            for number, peer in enumerate(self.registry.peers):
                if peer.binding is not binding or peer.inbox is not None:
                    continue
                if peer.state == PINGED:
                    self.dropped(peer, "silent")
                    peer.wire.abort()
                elif peer.state == SILENT:
                    peer.state = PINGED
                    peer.wire.write(ping)
                else:
                    peer.state = SILENT
                if number % _SLICE == 0:
                    await asyncio.sleep(0)

    async def _say_goodbye(self) -> None:
        for number, peer in enumerate(self.registry.peers):
            if peer.inbox is None:
                peer.wire.close(GOING_AWAY, "the service is stopping")
            peer.is_leaving = True
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(_SLICE / _LEAVING_A_SECOND)
