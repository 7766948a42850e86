"""Bindings: handlers, their sources and their policies, checked and ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from torpor.contract.event import Contract
    from torpor.kernel.auth import Auth
    from torpor.kernel.idempotent import Idempotent
    from torpor.kernel.retry import Retry
    from torpor.kernel.schedule import Cron, Every
    from torpor.kernel.socket import SocketLimits
    from torpor.runtime.injection import Call
    from torpor.runtime.options import SocketOptions
    from torpor.runtime.paths import Paths
    from torpor.runtime.policies import Policies
    from torpor.runtime.rules import Rule, Rules
    from torpor.runtime.service import Service


class Handled:
    """What every binding tells: its name, its function, how to call it, what it publishes, where it stands."""

    __slots__ = ("asks", "call", "function", "location", "name", "publishes", "service")

    def __init__(
        self,
        name: str,
        call: Call,
        *,
        service: str,
        publishes: Sequence[type[Contract]],
        location: str,
        asks: Sequence[type[Contract]] = (),
    ) -> None:
        self.name = name
        self.call = call
        self.function = call.function
        self.service = service
        self.publishes = frozenset(publishes)
        self.asks = frozenset(asks)
        self.location = location


class SubscriberBinding:
    """A handler of a topic, whose events are durable or fleeting."""

    __slots__ = ("contract", "group", "handled", "policies", "topic")

    def __init__(
        self, handled: Handled, contract: type[Contract], *, topic: str, group: str, policies: Policies
    ) -> None:
        self.handled = handled
        self.contract = contract
        self.topic = topic
        self.group = group
        self.policies = policies

    @property
    def is_durable(self) -> bool:
        """Whether its events are kept until they are handled; fleeting ones are not."""
        return bool(getattr(self.contract, "__torpor_durable__", True))

    def __repr__(self) -> str:
        return f"<SubscriberBinding {self.handled.name} on {self.topic} group={self.group}>"


class AnswererBinding:
    """A handler that answers requests. `answer` is the type of what it returns."""

    __slots__ = ("answer", "concurrency", "contract", "handled", "topic")

    def __init__(
        self, handled: Handled, contract: type[Contract], *, topic: str, answer: Any, concurrency: int
    ) -> None:
        self.handled = handled
        self.contract = contract
        self.topic = topic
        self.answer = answer
        self.concurrency = concurrency

    def __repr__(self) -> str:
        return f"<AnswererBinding {self.handled.name} on {self.topic}>"


class Access:
    """Who may call a route: those that `auth` lets in, or anybody. When neither is said, `torpor check` and `torpor
    run` refuse it, and tests and `torpor dev` let anybody. `rules` say how."""

    __slots__ = ("auth", "is_public", "rules")

    def __init__(self, auth: Auth | None = None, *, is_public: bool = False, rules: Rules | None = None) -> None:
        self.auth = auth
        self.is_public = is_public
        self.rules = rules

    def below(self, given: Sequence[Rule]) -> Access:
        """The same, with the rules that are said further down."""
        if not given:
            return self
        from torpor.runtime.rules import Rules

        return Access(self.auth, is_public=self.is_public, rules=(self.rules or Rules()).below(given))

    @property
    def is_said(self) -> bool:
        """Whether somebody has said it."""
        return self.is_public or self.auth is not None


class RouteBinding:
    """A handler of an HTTP route."""

    __slots__ = ("access", "handled", "idempotency", "method", "options", "path")

    def __init__(
        self,
        handled: Handled,
        *,
        method: str,
        path: str,
        options: Mapping[str, Any],
        idempotency: Idempotent | None = None,
        access: Access | None = None,
    ) -> None:
        self.access = access or Access()
        self.handled = handled
        self.method = method
        self.path = path
        self.options = options
        self.idempotency = idempotency

    @property
    def foreign(self) -> tuple[inspect.Parameter, ...]:
        """The parameters that FastAPI fills."""
        return tuple(self.handled.call.foreign)

    @property
    def returns(self) -> Any:
        """What its annotation says that it returns; `inspect.Parameter.empty` when it says nothing."""
        import inspect

        return self.handled.call.hints.get("return", inspect.Parameter.empty)

    def __repr__(self) -> str:
        return f"<RouteBinding {self.handled.name} on {self.method} {self.path}>"


class SocketHandler:
    """A handler of a socket. `names` are its parameters that are in the path, `socket` the one for the connection."""

    __slots__ = ("handled", "names", "socket")

    def __init__(self, handled: Handled, *, names: Sequence[str], socket: str | None) -> None:
        self.handled = handled
        self.names = tuple(names)
        self.socket = socket

    @property
    def uses_tx(self) -> bool:
        """Whether it has a transaction."""
        return self.handled.call.uses_tx


class SocketBinding:
    """A handler of what clients send over WebSockets at a path, and those of their coming and going.

    `parameter` is the one for the message, `read` what makes it of text or bytes, and `paths` what reads a path.
    """

    __slots__ = (
        "access", "connect", "disconnect", "hint", "limits", "message", "message_size", "origins", "parameter", "path",
        "paths", "read", "seconds", "sends", "subprotocols",
    )  # fmt: skip

    def __init__(
        self,
        around: Sequence[SocketHandler | None],
        path: str,
        *,
        parameter: str,
        read: Callable[[str | bytes], Any],
        paths: Paths,
        access: Access,
        options: SocketOptions,
    ) -> None:
        message, self.connect, self.disconnect = around
        if message is None:
            raise TypeError("a socket without a handler of its messages")
        self.message: SocketHandler = message
        self.path = path
        self.parameter = parameter
        self.read = read
        self.paths = paths
        self.access = access
        self.limits: SocketLimits = options["limits"]
        self.origins: frozenset[str] = frozenset()  # whose pages may connect, beside one's own
        self.message_size = 0  # bytes of the largest message
        self.seconds: float | None = None  # that a handler may take
        self.subprotocols = tuple(options.get("subprotocols", ()))
        self.sends = tuple(options.get("sends", ()))
        (self.hint,) = (one.annotation for one in message.handled.call.foreign if one.name == parameter)  # its type

    @property
    def handled(self) -> Handled:
        """What its main handler tells of itself."""
        return self.message.handled

    @property
    def handlers(self) -> tuple[SocketHandler, ...]:
        """All its handlers."""
        return tuple(handler for handler in (self.message, self.connect, self.disconnect) if handler is not None)

    def __repr__(self) -> str:
        return f"<SocketBinding {self.handled.name} on {self.path}>"


class TickerBinding:
    """A handler of a schedule."""

    __slots__ = ("handled", "retry", "schedule")

    def __init__(self, handled: Handled, schedule: Every | Cron, *, retry: Retry) -> None:
        self.handled = handled
        self.schedule = schedule
        self.retry = retry

    def __repr__(self) -> str:
        return f"<TickerBinding {self.handled.name} {self.schedule!r}>"


Binding = SubscriberBinding | AnswererBinding | RouteBinding | SocketBinding | TickerBinding


class Plan:
    """A service whose every binding has been checked."""

    __slots__ = ("answerers", "lifespans", "listeners", "routes", "service", "sockets", "subscribers", "tickers")

    def __init__(
        self,
        service: Service,
        bindings: Sequence[Binding] = (),
        *,
        lifespans: Sequence[Callable[[], AsyncIterator[Any]]] = (),
    ) -> None:
        on_topics = [binding for binding in bindings if isinstance(binding, SubscriberBinding)]
        self.service = service
        self.lifespans = tuple(lifespans)
        self.subscribers = tuple(binding for binding in on_topics if binding.is_durable)
        self.listeners = tuple(binding for binding in on_topics if not binding.is_durable)
        self.answerers = tuple(binding for binding in bindings if isinstance(binding, AnswererBinding))
        self.routes = tuple(binding for binding in bindings if isinstance(binding, RouteBinding))
        self.sockets = tuple(binding for binding in bindings if isinstance(binding, SocketBinding))
        self.tickers = tuple(binding for binding in bindings if isinstance(binding, TickerBinding))

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def handlers(self) -> tuple[Handled, ...]:
        """What all the bindings share, subscribers first."""
        bindings: tuple[SubscriberBinding | AnswererBinding | TickerBinding | RouteBinding, ...] = (
            *self.subscribers,
            *self.listeners,
            *self.answerers,
            *self.tickers,
            *self.routes,
        )
        sockets = (handler.handled for socket in self.sockets for handler in socket.handlers)
        return (*(binding.handled for binding in bindings), *sockets)

    @property
    def published(self) -> tuple[type[Contract], ...]:
        """The contracts that the service publishes, by name."""
        return tuple(sorted({c for h in self.handlers for c in h.publishes}, key=lambda c: c.__name__))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the service publishes to or listens to, and that keep what is on them."""
        published = {c.__torpor_topic__ for c in self.published if c.__torpor_topic__ and c.__torpor_durable__}
        return tuple(sorted(published | {s.topic for s in self.subscribers}))

    @property
    def asked(self) -> tuple[type[Contract], ...]:
        """The requests that the service is known to ask, by name."""
        return tuple(sorted({c for h in self.handlers for c in h.asks}, key=lambda c: c.__name__))

    @property
    def uses_exchange(self) -> bool:
        """Whether it asks, answers, publishes or hears what no broker keeps."""
        is_telling = any(not contract.__torpor_durable__ for contract in self.published)
        return bool(self.listeners or self.answerers) or is_telling or any(h.call.uses_ask for h in self.handlers)

    @property
    def needs_broker(self) -> bool:
        """Whether the service works with a broker at all."""
        passes_on = self.uses_exchange or bool(self.sockets)
        return bool(self.topics) or passes_on or any(h.call.uses_broker for h in self.handlers)

    @property
    def needs_store(self) -> bool:
        """Whether a handler asks for a transaction, and so for a database."""
        return any(handler.call.needs_store for handler in self.handlers)
