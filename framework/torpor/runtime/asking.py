"""Asking: a request to another service, and the wait for its answer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torpor.contract.codec import encode
from torpor.kernel.errors import ConfigurationError, DecodeError, NotAnswered, NotRunning, TimedOut

if TYPE_CHECKING:
    from torpor.contract.answer import AnswerCodec
    from torpor.contract.event import Request
    from torpor.kernel.message import Message
    from torpor.ports.exchange import Exchange
    from torpor.runtime.tx import Envelope

A = TypeVar("A")

TIMEOUT = "torportimeout"  # the CloudEvents extension that tells how many seconds the caller waits
CODE = "torporcode"  # of an answer that is none: why


class Ask(Protocol):
    """Asks another service, and waits for its answer. A handler, a route or a dependency has one by its type.

    ```python
    class GetPrice(Request[int], topic="prices.get"):
        sku: str


    @orders.get("/price/{sku}")
    async def price(sku: str, ask: Ask) -> int:
        return await ask(GetPrice(sku=sku), timeout=2.0)
    ```

    A request is sent once. Raises NotAnswered when it is known that no answer will come, TimedOut and
    BrokerUnavailable when it is unknown whether it was handled, and Rejected when it is too large. A test calls the
    handler with any async function in its place.
    """

    async def __call__(self, request: Request[A], *, timeout: float = 5.0) -> A:  # noqa: ASYNC109  # it travels
        """The answer, of the type that the request's class names."""
        ...


class Asking:
    """An `Ask` on an exchange. What it asks tells its cause: the message in hand."""

    __slots__ = ("_cause", "_codecs", "_envelope", "_exchange")

    def __init__(self, exchange: Exchange | None, envelope: Envelope) -> None:
        self._exchange = exchange
        self._envelope = envelope
        self._cause: Message | None = None
        self._codecs: dict[type[Any], AnswerCodec] = {}

    def within(self, cause: Message | None) -> Asking:
        """The same, for the handling of a message."""
        if cause is None:
            return self
        asking = Asking(self._exchange, self._envelope)
        asking._cause, asking._codecs = cause, self._codecs
        return asking

    async def __call__(self, request: Request[A], *, timeout: float = 5.0) -> A:  # noqa: ASYNC109  # it travels
        name = type(request).__name__
        if not (math.isfinite(timeout) and timeout > 0):
            raise ConfigurationError([f"ask({name}, timeout={timeout}) waits for nothing. Give a number of seconds."])
        if self._exchange is None:
            raise NotRunning(f"{name} cannot be asked: this service has no broker that carries requests.")
        codec = self._codec(type(request))
        attributes = {**self._envelope.attributes(self._cause), TIMEOUT: f"{timeout:g}"}
        message = encode(request, id=self._envelope.new_id(), key=None, attributes=attributes)
        try:
            async with asyncio.timeout(timeout):
                answer = await self._exchange.ask(message)
        except TimeoutError as error:
            raise TimedOut(
                f"{name} was not answered within {timeout:g} s, and it is unknown whether it was handled "
                f"(request {message.id}). Ask again if that does no harm, or give it a longer timeout.",
                seconds=timeout,
            ) from error
        answered: A = self._read(name, message, answer, codec)
        return answered

    def _read(self, name: str, request: Message, answer: Message | None, codec: AnswerCodec) -> Any:
        if answer is None:
            raise NotAnswered(
                f"Nobody answers {name} on {request.topic!r} at the moment (request {request.id}). "
                "Start the service that does, or ask again later.",
                code="nobody",
                request_id=request.id,
            )
        code = answer.attributes.get(CODE)
        if code is not None:
            text = answer.data.decode("utf-8", "replace")
            raise NotAnswered(f"{name} has no answer: {text} (request {request.id})", code=code, request_id=request.id)
        try:
            return codec.decode(answer.data)
        except DecodeError as error:
            raise NotAnswered(
                f"{name} has an answer that cannot be read: {error} (request {request.id})",
                code="unreadable",
                request_id=request.id,
            ) from error

    def _codec(self, request: type[Any]) -> AnswerCodec:
        codec = self._codecs.get(request)
        if codec is None:
            from torpor.contract.answer import UNSAID, AnswerCodec, answer_of

            answer = answer_of(request)
            if answer is UNSAID or request.__torpor_topic__ is None:
                name = request.__name__
                raise ConfigurationError([f'{name} is no request. Write: class {name}(Request[Answer], topic="...").'])
            codec = self._codecs[request] = AnswerCodec(answer)
        return codec
