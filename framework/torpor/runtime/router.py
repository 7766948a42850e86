"""What a user declares: handlers on topics, routes and schedules, gathered on a router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from torpor.kernel.retry import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from torpor.contract.event import Request
    from torpor.kernel.auth import Auth
    from torpor.kernel.schedule import Cron, Every
    from torpor.runtime.options import RouteOptions, SocketOptions, TopicOptions
    from torpor.runtime.rules import Rule

Handler = TypeVar("Handler", bound="Callable[..., Awaitable[Any]]")
P = ParamSpec("P")
A = TypeVar("A")
Resource = TypeVar("Resource", bound="Callable[[], AsyncIterator[Any]]")


class OnTopic:
    """A declared handler of a contract's topic."""

    __slots__ = ("contract", "options")

    def __init__(self, contract: type[Any], options: TopicOptions) -> None:
        self.contract = contract
        self.options = options


class OnRequest:
    """A declared handler of requests, and how many it answers at a time."""

    __slots__ = ("concurrency", "contract")

    def __init__(self, contract: type[Any], concurrency: int) -> None:
        self.contract = contract
        self.concurrency = concurrency


class OnRoute:
    """A declared HTTP route."""

    __slots__ = ("method", "options", "path")

    def __init__(self, method: str, path: str, options: RouteOptions) -> None:
        self.method = method
        self.path = path
        self.options = options


class OnSocket:
    """A declared handler of what clients send over WebSockets."""

    __slots__ = ("options", "path")

    def __init__(self, path: str, options: SocketOptions) -> None:
        self.path = path
        self.options = options


class OnSchedule:
    """A declared handler of a schedule's ticks."""

    __slots__ = ("retry", "schedule")

    def __init__(self, schedule: Every | Cron, retry: Retry) -> None:
        self.schedule = schedule
        self.retry = retry


Source = OnTopic | OnRequest | OnRoute | OnSocket | OnSchedule


class Declaration:
    """A function and its source, as written; nothing is checked yet."""

    __slots__ = ("function", "name", "publishes", "source")

    def __init__(
        self, function: Callable[..., Any], source: Source, *, name: str | None, publishes: Sequence[type[Any]]
    ) -> None:
        self.function = function
        self.source = source
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.publishes = tuple(publishes)


class Router:
    """Handlers gathered in one module, to be included in a service.

    ```python
    reports = Router(prefix="/reports", tags=["reports"])


    @reports.get("/daily")
    async def daily(tx: Tx) -> Report: ...


    orders.include(reports)
    ```

    A decorator stores the function and returns it unchanged, so that a unit test may call it.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: Sequence[str] = (),
        auth: Auth | None = None,
        public: bool = False,
        rules: Sequence[Rule] = (),
    ) -> None:
        self.auth = auth
        self.public = public
        self.rules = tuple(rules)
        self.prefix = prefix
        self.tags = tuple(tags)
        self.declarations: list[Declaration] = []
        self.lifespans: list[Callable[[], AsyncIterator[Any]]] = []
        self.routers: list[Router] = []

    def on(self, contract: type[Any], **options: Unpack[TopicOptions]) -> Callable[[Handler], Handler]:
        """Handles each message of a contract's topic, once for each group.

        What the handler returns is published in the transaction of its effects. The options are those of
        `TopicOptions`: `retry`, `batch`, `order`, `concurrency`, `pause`, `group`, `name`, `publishes`.
        """
        return self._declaring(OnTopic(contract, options), options.get("name"), options.get("publishes", ()))

    def answer(
        self,
        request: type[Request[A]],
        *,
        concurrency: int = 64,
        name: str | None = None,
        publishes: Sequence[type[Any]] = (),
    ) -> Callable[[Callable[P, Coroutine[Any, Any, A]]], Callable[P, Coroutine[Any, Any, A]]]:
        """Answers requests with what the handler returns, once its effects are committed; see `Ask`.

        Replicas share them, and each handles so many at a time. What raises is told to the caller as failed, without
        its reason, and what comes after its caller has given up is not begun.
        """
        return self._declaring(OnRequest(request, concurrency), name, publishes)

    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answers `GET path`, by FastAPI's rules for parameters and response."""
        return self._declaring(OnRoute("GET", path, options), options.get("name"), options.get("publishes", ()))

    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answers `POST path`."""
        return self._declaring(OnRoute("POST", path, options), options.get("name"), options.get("publishes", ()))

    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answers `PUT path`."""
        return self._declaring(OnRoute("PUT", path, options), options.get("name"), options.get("publishes", ()))

    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answers `PATCH path`."""
        return self._declaring(OnRoute("PATCH", path, options), options.get("name"), options.get("publishes", ()))

    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answers `DELETE path`."""
        return self._declaring(OnRoute("DELETE", path, options), options.get("name"), options.get("publishes", ()))

    def socket(self, path: str, **options: Unpack[SocketOptions]) -> Callable[[Handler], Handler]:
        """Takes WebSockets at a path, and handles each message that a client sends; see `Socket`.

        What the handler returns is sent to that client. The messages of a connection are handled one after the other.
        """
        return self._declaring(OnSocket(path, options), options.get("name"), options.get("publishes", ()))

    def every(
        self,
        seconds: float,
        *,
        retry: Retry | None = None,
        name: str | None = None,
        publishes: Sequence[type[Any]] = (),
    ) -> Callable[[Handler], Handler]:
        """Runs a handler at every whole multiple of `seconds`; replicas on one database run each tick once."""
        from torpor.kernel.schedule import Every

        return self._declaring(OnSchedule(Every(seconds), retry or Retry()), name, publishes)

    def cron(
        self,
        expression: str,
        *,
        retry: Retry | None = None,
        name: str | None = None,
        publishes: Sequence[type[Any]] = (),
    ) -> Callable[[Handler], Handler]:
        """Runs a handler by a cron expression in UTC; replicas on one database run each tick once."""
        from torpor.kernel.schedule import Cron

        return self._declaring(OnSchedule(Cron(expression), retry or Retry()), name, publishes)

    def lifespan(self, function: Resource) -> Resource:
        """Keeps what an async generator yields for as long as the service runs; see `Depends`."""
        self.lifespans.append(function)
        return function

    def include(self, router: Router) -> None:
        """Adds the handlers of another router, under this one's prefix."""
        self.routers.append(router)

    def _declaring(
        self, source: Source, name: str | None, publishes: Sequence[type[Any]]
    ) -> Callable[[Handler], Handler]:
        def declare(function: Handler) -> Handler:
            self.declarations.append(Declaration(function, source, name=name, publishes=publishes))
            return function

        return declare
