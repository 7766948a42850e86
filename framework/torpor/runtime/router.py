"""What a user declares: handlers on topics, routes and schedules, gathered on a router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from torpor.kernel.retry import Retry
from torpor.kernel.schedule import Cron, Every

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from torpor.kernel.idempotent import Idempotent
    from torpor.runtime.policies import TopicOptions

Handler = TypeVar("Handler", bound="Callable[..., Awaitable[Any]]")
Resource = TypeVar("Resource", bound="Callable[[], AsyncIterator[Any]]")


class RouteOptions(TypedDict, total=False):
    """What a route may say beside its path: `name` and `publishes` as for `on`, `idempotency` for requests that come
    again, the others as FastAPI means them."""

    name: str
    publishes: Sequence[type[Any]]
    idempotency: Idempotent
    status_code: int
    tags: Sequence[str]
    response_model: Any
    responses: dict[int | str, dict[str, Any]]
    summary: str
    description: str
    deprecated: bool
    include_in_schema: bool
    operation_id: str
    response_model_exclude_none: bool


class OnTopic:
    """A declared handler of a contract's topic."""

    __slots__ = ("contract", "options")

    def __init__(self, contract: type[Any], options: TopicOptions) -> None:
        self.contract = contract
        self.options = options


class OnRoute:
    """A declared HTTP route."""

    __slots__ = ("method", "options", "path")

    def __init__(self, method: str, path: str, options: RouteOptions) -> None:
        self.method = method
        self.path = path
        self.options = options


class OnSchedule:
    """A declared handler of a schedule's ticks."""

    __slots__ = ("retry", "schedule")

    def __init__(self, schedule: Every | Cron, retry: Retry) -> None:
        self.schedule = schedule
        self.retry = retry


Source = OnTopic | OnRoute | OnSchedule


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

    def __init__(self, *, prefix: str = "", tags: Sequence[str] = ()) -> None:
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

    def every(
        self,
        seconds: float,
        *,
        retry: Retry | None = None,
        name: str | None = None,
        publishes: Sequence[type[Any]] = (),
    ) -> Callable[[Handler], Handler]:
        """Runs a handler at every whole multiple of `seconds`; replicas on one database run each tick once."""
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
