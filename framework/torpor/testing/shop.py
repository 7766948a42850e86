"""The harness: services on memory adapters, in one process, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from torpor.contract.codec import decode, encode, topic_of
from torpor.kernel.errors import NeverSettled, NotRunning
from torpor.kernel.message import Message
from torpor.kernel.parked import ParkedQuery
from torpor.runtime.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx

    from torpor.assembly import Deployment
    from torpor.contract.event import Request
    from torpor.kernel.message import ParkedMessage
    from torpor.runtime.host import Host
    from torpor.runtime.service import Service
    from torpor.testing.socket import TestSocket

A = TypeVar("A")
C = TypeVar("C")

_PATIENCE_SECONDS = 10.0
_QUIET_TURNS = 5
_POLL_SECONDS = 2.0


class TestShop:
    """Runs services for a test: HTTP in process, a broker and databases in memory, virtual time.

    ```python
    async with TestShop(orders, inventory) as shop:
        answer = await shop.post("/orders", json={"customer_id": "ada", "items": []})
        await shop.settle()
        assert shop.published(OrderPlaced)
    ```

    With `waits=False` it opens before the services are ready, to test how they start. With `delivery="push"` messages
    are posted to `/-/events/<handler>` as CloudEvents, and nothing is consumed.
    """

    __test__ = False  # pytest is not to collect it

    def __init__(self, *services: Service, waits: bool = True, delivery: str = "pull") -> None:
        from torpor.adapters.memory.broker import MemoryHub
        from torpor.adapters.memory.clock import VirtualClock

        self.clock = VirtualClock()
        self.hub = MemoryHub(now=self.clock.time)
        self._services = services
        self._waits = waits
        self._delivery = delivery
        self._deployment: Deployment | None = None
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        if self._waits:
            await self._wait(lambda: all(host.is_ready for host in self.hosts), "start")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(await self._told())
        await self._close()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request to the services, with httpx's own options, and returns the response."""
        if self._client is None:
            import httpx

            transport = httpx.ASGITransport(app=self._running.app)
            self._client = httpx.AsyncClient(transport=transport, base_url="http://torpor.test")
        return await self._client.request(method, path, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """`GET path`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        """`POST path`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> httpx.Response:
        """`PUT path`."""
        return await self.request("PUT", path, **options)

    def connect(self, path: str, *, headers: Mapping[str, str] | None = None) -> TestSocket:
        """A WebSocket to a path, for `async with`."""
        from torpor.runtime.peer import Knock
        from torpor.testing.socket import TestSocket

        door = self._running.sockets
        if door is None:
            raise NotRunning("These services take no WebSockets. Declare one with .socket(path).")
        path, _, query = path.partition("?")
        named = {name.lower(): value for name, value in (headers or {}).items()}
        knock = Knock(path, query, {"host": "torpor.test", **named}, client="127.0.0.1")  # as its requests come from
        return TestSocket(door.let_in, knock, self.settle)

    async def publish(self, event: object, *, id: str | None = None) -> None:
        """Publishes an event as if another service had; twice with one `id` is a redelivery. A `Message` goes out
        as it is, well-formed or not."""
        from torpor.adapters.memory.broker import MemoryBroker

        if isinstance(event, Message):
            message = event
        else:
            message = encode(event, id=id or new_id(), key=None, attributes={"source": "test"})
        broker = MemoryBroker(self.hub)
        await broker.start()
        heard = {listener.topic for host in self.hosts for listener in host.plan.listeners}
        if message.topic in heard or not getattr(event, "__torpor_durable__", True):
            await broker.exchange.tell([message])
            return
        await broker.declare([message.topic], ())
        await broker.publish([message])

    async def ask(self, request: Request[A], *, timeout: float = 5.0) -> A:  # noqa: ASYNC109  # it travels
        """Asks as another service would, and returns the answer."""
        from torpor.adapters.memory.broker import MemoryBroker
        from torpor.runtime.asking import Asking
        from torpor.runtime.tx import Envelope

        broker = MemoryBroker(self.hub)
        await broker.start()
        asking = Asking(broker.exchange, Envelope("test", new_id=new_id, clock=self.clock))
        return await asking(request, timeout=timeout)

    def published(self, contract: type[C]) -> list[C]:
        """The events of one contract that were published so far, in order."""
        topic = topic_of(contract)
        messages = (*self.hub.published, *self.hub.switch.told)
        return [decode(contract, message) for message in messages if message.topic == topic]

    async def parked(self, binding: str | None = None) -> list[ParkedMessage]:
        """What is parked, in one binding or in all."""
        rows: list[ParkedMessage] = []
        for host in self._running.hosts:
            rows += await host.store.parking.list(ParkedQuery(binding=binding))
        return rows

    async def redrive(self, binding: str | None = None) -> None:
        """Sends what is parked, in one binding or in all, through its handler again, and settles."""
        for host in self.hosts:
            if await host.store.parking.list(ParkedQuery(binding=binding), limit=1):
                await host.store.parking.redrive(ParkedQuery(binding=binding), self.clock.time())
        await self.advance(_POLL_SECONDS)

    async def settle(self) -> None:
        """Waits until nothing is in flight: no message, no unit, nothing in an outbox. The windows of batches pass."""
        while True:
            await self._wait(lambda: self._lingers() > 0 or self._is_quiet(), "settle")
            if self._is_quiet():
                return
            await self.clock.advance(self._lingers())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits, on the services' work alone, until a condition holds."""
        await self._wait(condition, "come to that")

    async def advance(self, seconds: float) -> None:
        """Moves the clock, lets what is due happen, and settles."""
        await self.clock.advance(seconds)
        await self.settle()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The running services, as they were given."""
        return self._running.hosts

    async def _open(self) -> None:
        from torpor.assembly import assemble_in_memory

        self._deployment = assemble_in_memory(self._services, hub=self.hub, clock=self.clock, delivery=self._delivery)
        await self._deployment.start()

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        await self._running.stop()
        self._deployment = None

    @property
    def _running(self) -> Deployment:
        if self._deployment is None:
            raise NotRunning("This TestShop is not open. Use it as `async with TestShop(...) as shop:`.")
        return self._deployment

    async def _told(self) -> str:
        """What a failing test's reader wants to know of the services."""
        rows = [f"  {row.binding}: {row.message.topic} {row.reason}" for row in await self.parked()]
        return "\n".join(["Parked messages:", *rows]) if rows else "No message is parked."

    def _lingers(self) -> float:
        return max(host.lingers for host in self.hosts)

    def _is_quiet(self) -> bool:
        return self.hub.is_idle and all(host.is_idle for host in self._running.hosts)

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """Lets the loop turn until a condition has held for some turns in a row."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        quiet = 0
        while quiet < _QUIET_TURNS:
            quiet = quiet + 1 if condition() else 0
            if loop.time() > deadline:
                status = {host.name: host.status() for host in self._running.hosts}
                raise NeverSettled(f"The services did not {what} within {_PATIENCE_SECONDS:g} s: {status}")
            await asyncio.sleep(0)
