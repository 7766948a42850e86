"""Running a handler of requests: what holds for all of its requests is found out once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torpor.runtime.injection import Scope
from torpor.runtime.tx import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from torpor.kernel.identity import Caller
    from torpor.runtime.context import Context
    from torpor.runtime.plan import Handled
    from torpor.runtime.tx import Tx

    Begin = Callable[..., AbstractAsyncContextManager[Tx]]

_FAILURE = 500


class Responder:
    """Runs one handler of requests, and counts what comes of it."""

    __slots__ = (
        "_begin",
        "_call",
        "_function",
        "_handled",
        "_is_straight",
        "_numbers",
        "_resources",
        "_time",
        "_uses_tx",
    )

    def __init__(self, handled: Handled, context: Context, *, begin: Begin) -> None:
        self._handled = handled
        self._call = handled.call
        self._function = handled.call.function
        self._is_straight = handled.call.asks_nothing
        self._uses_tx = handled.call.uses_tx
        self._resources = context.resources
        self._numbers = context.metrics.of(handled.name)
        self._time = context.clock.time
        self._begin = begin

    async def respond(self, arguments: dict[str, Any], tx: Tx | None = None, *, caller: Caller | None = None) -> Any:
        """Runs the handler once; one that asks for `Tx` runs in a unit, and has committed when this returns, unless it
        is given the transaction of one that is open."""
        numbers, started = self._numbers, self._time()
        numbers.in_flight += 1
        try:
            if self._is_straight:
                result = await self._function(**arguments)
            else:
                result = await self._invoke(arguments, tx, caller)
        except Exception as error:
            if getattr(error, "status_code", _FAILURE) >= _FAILURE:
                numbers.failed += 1
            else:
                numbers.done += 1  # an answer for the client, such as 404
            raise
        finally:
            numbers.in_flight -= 1
            numbers.seconds.observe(self._time() - started)
        numbers.done += 1
        return result

    async def _invoke(self, arguments: dict[str, Any], tx: Tx | None, caller: Caller | None) -> Any:
        """Runs a handler that asks for something of ours."""
        call, resources = self._call, self._resources
        if tx is not None:
            return await call.invoke(Scope(resources, tx=tx, caller=caller), arguments)
        if self._uses_tx:
            async with self._begin(self._handled, caller=caller) as own:
                return await call.invoke(Scope(resources, tx=own, caller=caller), arguments)
        begin = None if call.transactions is None else partial(self._begin, self._handled, caller=caller)
        transactions = None if begin is None else Transactions(begin)
        return await call.invoke(Scope(resources, transactions=transactions, caller=caller), arguments)
