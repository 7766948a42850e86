"""How a function's parameters are filled: found out once, at binding, and followed at each call."""

from __future__ import annotations

import inspect
import sys
import typing
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from torpor.kernel.message import Message
from torpor.runtime.tx import Transactions, Tx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from inspect import Parameter

    from torpor.kernel.identity import Caller
    from torpor.runtime.dependency import Depends

# The modules of types that are filled everywhere. Who asks for one has imported it, and a service that wakes for one
# event imports no other.
ASK, BROKER, SOCKETS = "torpor.runtime.asking", "torpor.ports.broker", "torpor.runtime.sockets"
_CALLER, _DEPENDS, _NOTHING = "torpor.kernel.identity", "torpor.runtime.dependency", object()
_FILLED = (
    (ASK, "Ask", "ask"), (BROKER, "Broker", "broker"), (SOCKETS, "Sockets", "sockets"),
    ("torpor.runtime.steps", "StepKey", "step_key"),
)  # fmt: skip


class Scope:
    """One handler call: what its parameters are filled from, and what is closed when it ends."""

    __slots__ = ("_caller", "_exits", "_values", "message", "payload", "resources", "transactions", "tx")

    def __init__(
        self,
        resources: Mapping[Any, Any],
        *,
        caller: Caller | None = None,
        tx: Tx | None = None,
        transactions: Transactions | None = None,
        payload: Any = None,
    ) -> None:
        self.resources = resources
        self._caller = caller
        self.tx = tx
        self.transactions = transactions
        self.payload = payload
        self.message: Message | None = None if tx is None else tx.message
        self._values: dict[Any, Any] = {}
        self._exits: AsyncExitStack | None = None

    @property
    def caller(self) -> Caller | None:
        """Who has called, or who the message in hand tells of."""
        if self._caller is not None or self.message is None:
            return self._caller
        from torpor.kernel.identity import caller_of

        return caller_of(self.message.attributes)

    async def resolve(self, call: Call) -> Any:
        """The value of a dependency, made once in this scope."""
        function = call.function
        if function in self.resources:
            return self.resources[function]
        if function not in self._values:
            self._values[function] = await self._enter(call, await call.arguments(self, {}))
        return self._values[function]

    async def _enter(self, call: Call, arguments: dict[str, Any]) -> Any:
        function = call.function
        if inspect.isasyncgenfunction(function):
            return await self._stack().enter_async_context(asynccontextmanager(function)(**arguments))
        if inspect.isgeneratorfunction(function):
            return self._stack().enter_context(contextmanager(function)(**arguments))
        value = function(**arguments)
        return await value if inspect.isawaitable(value) else value

    def _stack(self) -> AsyncExitStack:
        if self._exits is None:
            self._exits = AsyncExitStack()
        return self._exits

    async def close(self, error: BaseException | None) -> None:
        """Ends the generators among the dependencies, in reverse; they see the handler's error."""
        if self._exits is not None:
            await self._exits.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)


class Call:
    """A function, and what each of its parameters is filled with."""

    __slots__ = (
        "ask", "broker", "caller", "depends", "foreign", "function", "hints", "message", "payload", "sockets",
        "step_key", "transactions", "tx",
    )  # fmt: skip

    def __init__(self, function: Callable[..., Any], hints: Mapping[str, Any]) -> None:
        self.function = function
        self.hints = hints
        self.payload: str | None = None
        self.tx: str | None = None
        self.transactions: str | None = None
        self.message: str | None = None
        self.step_key: str | None = None
        self.ask: str | None = None
        self.broker: str | None = None
        self.sockets: str | None = None
        self.caller: str | None = None
        self.depends: list[tuple[str, Call]] = []
        self.foreign: list[inspect.Parameter] = []

    @property
    def uses_tx(self) -> bool:
        """Whether the function, or one of its dependencies, asks for `Tx`."""
        return self.tx is not None or any(call.uses_tx for _, call in self.depends)

    @property
    def asks_nothing(self) -> bool:
        """Whether all that the function asks for, beside a payload, is given to it."""
        places = (self.ask, self.broker, self.caller, self.sockets)
        return not any((self.tx, self.transactions, self.message, self.step_key, *places, *self.depends))

    @property
    def only_payload(self) -> str | None:
        """The parameter for the payload, of a function that asks for nothing else."""
        return self.payload if self.asks_nothing and not self.foreign else None

    @property
    def needs_store(self) -> bool:
        """Whether the function works on the database."""
        return self.uses_tx or self.transactions is not None

    @property
    def uses_step_key(self) -> bool:
        """Whether the function, or one of its dependencies, asks for `StepKey`."""
        return self.step_key is not None or any(call.uses_step_key for _, call in self.depends)

    @property
    def uses_ask(self) -> bool:
        """Whether the function, or one of its dependencies, asks other services."""
        return self.ask is not None or any(call.uses_ask for _, call in self.depends)

    @property
    def uses_broker(self) -> bool:
        """Whether the function, or one of its dependencies, asks for the broker itself."""
        return self.broker is not None or any(call.uses_broker for _, call in self.depends)

    @property
    def uses_sockets(self) -> bool:
        """Whether the function, or one of its dependencies, asks for the service's connections."""
        return self.sockets is not None or any(call.uses_sockets for _, call in self.depends)

    async def arguments(self, scope: Scope, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments, those that are given and those that the scope fills."""
        if self.payload is not None:
            given[self.payload] = scope.payload
        if self.tx is not None:
            given[self.tx] = scope.tx
        if self.transactions is not None:
            given[self.transactions] = scope.transactions
        if self.message is not None:
            given[self.message] = scope.message
        if self.step_key is not None and scope.tx is not None:
            given[self.step_key] = scope.tx.step_key
        if self.ask or self.broker or self.sockets:
            self._lend(scope, given)
        if self.caller is not None:
            given[self.caller] = scope.caller
        for name, call in self.depends:
            given[name] = await scope.resolve(call)
        return given

    def _lend(self, scope: Scope, given: dict[str, Any]) -> None:
        """The arguments that are the service's own."""
        if self.ask is not None:
            given[self.ask] = scope.resources[ASK].ask.within(scope.message)
        if self.broker is not None:
            given[self.broker] = scope.resources[BROKER]
        if self.sockets is not None:
            given[self.sockets] = scope.resources[SOCKETS]

    async def invoke(self, scope: Scope, given: dict[str, Any]) -> Any:
        """Calls the function in a scope, which is closed before this returns."""
        try:
            result = await self.function(**await self.arguments(scope, given))
        except BaseException as error:
            await scope.close(error)
            raise
        await scope.close(None)
        return result


class Inspector:
    """Makes calls from functions, and adds what is wrong with them to a list."""

    def __init__(self, lifespans: typing.Collection[Any], problems: list[str]) -> None:
        self.problems = problems
        self._lifespans = lifespans

    def inspect(self, function: Callable[..., Any], *, payload: Any = None, is_route: bool = False) -> Call:
        """The call of a handler whose payload has a type, or of a route, whose other parameters FastAPI fills."""
        hints = self._hints(function)
        call = Call(function, hints or {})
        if hints is None:
            return call
        self._fill(call, payload=payload, is_route=is_route, path=())
        if call.uses_tx and call.transactions is not None:
            self._tell(function, "asks for Tx and for Transactions. Ask for Tx, or begin your own with Transactions.")
        if payload is not None and call.payload is None and not call.foreign:
            self._tell(function, f"takes no {_shown(payload)}. Give it a parameter: event: {_shown(payload)}.")
        return call

    def _fill(self, call: Call, *, payload: Any, is_route: bool, path: tuple[Any, ...]) -> None:
        function = call.function
        for parameter in inspect.signature(function).parameters.values():
            hint = call.hints.get(parameter.name, parameter.annotation)
            depends = _depends_in(hint)
            slot = _slot_of(hint, is_route=is_route)
            if depends is not None:
                self._depend(call, parameter.name, depends, path=(*path, function))
            elif slot is not None:
                setattr(call, slot, parameter.name)
            elif hint is Transactions and is_route:
                call.transactions = parameter.name
            elif hint is Message and not is_route:
                call.message = parameter.name
            elif hint is Message:
                self._tell(function, "asks for Message. A request comes without one; ask FastAPI for its Request.")
            elif payload is not None and hint == payload:
                call.payload = parameter.name
            elif is_route:
                call.foreign.append(parameter.replace(annotation=hint))
            else:
                self._refuse(call, parameter, hint, payload=payload)

    def _refuse(self, call: Call, parameter: Parameter, hint: Any, *, payload: Any) -> None:
        """Tells of a parameter that nothing fills, unless it has a default."""
        if parameter.default is inspect.Parameter.empty:
            call.foreign.append(parameter)
            self._tell(call.function, _unknown(parameter, hint, payload))

    def _depend(self, call: Call, name: str, depends: Depends, *, path: tuple[Any, ...]) -> None:
        function = depends.function
        if function in path:
            self._tell(call.function, f"depends on itself through {_name(function)!r}. Break the circle.")
            return
        hints = self._hints(function)
        inner = Call(function, hints or {})
        if hints is not None and function not in self._lifespans:
            self._fill(inner, payload=None, is_route=False, path=path)
        call.depends.append((name, inner))

    def _hints(self, function: Callable[..., Any]) -> dict[str, Any] | None:
        """A function's annotations, or None, told, when they cannot be read."""
        target = function.__init__ if inspect.isclass(function) else function
        try:
            return typing.get_type_hints(target, include_extras=True)
        except NameError as error:
            self._tell(
                function,
                f"has an annotation that cannot be read: {error}. Import {error.name!r} at the top of its module, "
                "outside `if TYPE_CHECKING`.",
            )
        except TypeError as error:
            self._tell(function, f"has an annotation that cannot be read: {error}.")
        return None

    def _tell(self, function: Callable[..., Any], text: str) -> None:
        self.problems.append(f"{_name(function)!r} ({location_of(function)}) {text}")


def location_of(function: Callable[..., Any]) -> str:
    """The file and line of a function, for a message."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "built-in"


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _slot_of(hint: Any, *, is_route: bool) -> str | None:
    """What a parameter of a type of ours is filled with. Whoever calls a route is known, and of a message may be."""
    if hint is Tx:
        return "tx"
    caller = _known(_CALLER, "Caller")
    if caller is not _NOTHING and (hint == caller | None or (hint is caller and is_route)):
        return "caller"
    return next((slot for module, name, slot in _FILLED if hint is _known(module, name)), None)


def _known(module: str, name: str) -> Any:
    """A type, if somebody has imported it."""
    return getattr(sys.modules.get(module), name, _NOTHING)


def _depends_in(hint: Any) -> Depends | None:
    if typing.get_origin(hint) is Annotated:
        return next((extra for extra in hint.__metadata__ if _is_depends(extra)), None)
    return None


def _is_depends(value: Any) -> bool:
    kind = _known(_DEPENDS, "Depends")
    return kind is not _NOTHING and isinstance(value, kind)


def _shown(hint: Any) -> str:
    """A type as its author wrote it."""
    inner = ", ".join(_shown(part) for part in typing.get_args(hint))
    name = getattr(hint, "__name__", str(hint))
    return f"{name}[{inner}]" if inner and typing.get_origin(hint) is list else name


def _unknown(parameter: inspect.Parameter, hint: Any, payload: Any) -> str:
    known = f"{_shown(payload)}, Tx" if payload is not None else "Tx"
    if _is_depends(parameter.default):
        return f"gives {parameter.name!r} a Depends as its default. Write {parameter.name}: Annotated[T, Depends(f)]."
    if hint is Transactions:
        return "asks for Transactions, which only a route can. A message has one transaction: ask for tx: Tx."
    if hint is inspect.Parameter.empty:
        return (
            f"does not say the type of {parameter.name!r}. Annotate it: {known}, Message, or Annotated[T, Depends(f)]."
        )
    shown = _shown(hint)
    return (
        f"asks for '{parameter.name}: {shown}', which Torpor cannot fill. "
        f"Expected {known}, Message, or Annotated[{shown}, Depends(f)]."
    )
