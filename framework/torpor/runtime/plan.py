"""Bindings: handlers, their sources and their policies, checked and ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from torpor.contract.event import Contract
    from torpor.kernel.idempotent import Idempotent
    from torpor.kernel.retry import Retry
    from torpor.kernel.schedule import Cron, Every
    from torpor.runtime.injection import Call
    from torpor.runtime.policies import Policies
    from torpor.runtime.service import Service


class Handled:
    """What every binding tells: its name, its function, how to call it, what it publishes, where it stands."""

    __slots__ = ("call", "function", "location", "name", "publishes", "service")

    def __init__(
        self, name: str, call: Call, *, service: str, publishes: Sequence[type[Contract]], location: str
    ) -> None:
        self.name = name
        self.call = call
        self.function = call.function
        self.service = service
        self.publishes = frozenset(publishes)
        self.location = location


class SubscriberBinding:
    """A handler of a topic."""

    __slots__ = ("contract", "group", "handled", "policies", "topic")

    def __init__(
        self, handled: Handled, contract: type[Contract], *, topic: str, group: str, policies: Policies
    ) -> None:
        self.handled = handled
        self.contract = contract
        self.topic = topic
        self.group = group
        self.policies = policies

    def __repr__(self) -> str:
        return f"<SubscriberBinding {self.handled.name} on {self.topic} group={self.group}>"


class RouteBinding:
    """A handler of an HTTP route. `foreign` are the parameters that FastAPI fills."""

    __slots__ = ("foreign", "handled", "idempotency", "method", "options", "path", "returns")

    def __init__(
        self,
        handled: Handled,
        *,
        method: str,
        path: str,
        options: Mapping[str, Any],
        foreign: Sequence[inspect.Parameter],
        returns: Any,
        idempotency: Idempotent | None = None,
    ) -> None:
        self.handled = handled
        self.method = method
        self.path = path
        self.options = options
        self.foreign = tuple(foreign)
        self.returns = returns
        self.idempotency = idempotency

    def __repr__(self) -> str:
        return f"<RouteBinding {self.handled.name} on {self.method} {self.path}>"


class TickerBinding:
    """A handler of a schedule."""

    __slots__ = ("handled", "retry", "schedule")

    def __init__(self, handled: Handled, schedule: Every | Cron, *, retry: Retry) -> None:
        self.handled = handled
        self.schedule = schedule
        self.retry = retry

    def __repr__(self) -> str:
        return f"<TickerBinding {self.handled.name} {self.schedule!r}>"


class Plan:
    """A service whose every binding has been checked."""

    __slots__ = ("lifespans", "routes", "service", "subscribers", "tickers")

    def __init__(
        self,
        service: Service,
        *,
        subscribers: Sequence[SubscriberBinding],
        routes: Sequence[RouteBinding],
        tickers: Sequence[TickerBinding],
        lifespans: Sequence[Callable[[], AsyncIterator[Any]]],
    ) -> None:
        self.service = service
        self.subscribers = tuple(subscribers)
        self.routes = tuple(routes)
        self.tickers = tuple(tickers)
        self.lifespans = tuple(lifespans)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def handlers(self) -> tuple[Handled, ...]:
        """What all the bindings share, subscribers first."""
        bindings: tuple[SubscriberBinding | TickerBinding | RouteBinding, ...] = (
            *self.subscribers,
            *self.tickers,
            *self.routes,
        )
        return tuple(binding.handled for binding in bindings)

    @property
    def published(self) -> tuple[type[Contract], ...]:
        """The contracts that the service publishes, by name."""
        return tuple(sorted({c for h in self.handlers for c in h.publishes}, key=lambda c: c.__name__))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the service publishes to or listens to."""
        published = {c.__torpor_topic__ for c in self.published if c.__torpor_topic__}
        return tuple(sorted(published | {s.topic for s in self.subscribers}))

    @property
    def needs_store(self) -> bool:
        """Whether a handler asks for a transaction, and so for a database."""
        return any(handler.call.needs_store for handler in self.handlers)
