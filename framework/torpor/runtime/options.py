"""The options of handlers, by the names that a type checker knows them by.

Imported late: each annotation is compiled when its class is made, and a handler without options needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from torpor.kernel.auth import Auth
    from torpor.kernel.batch import Batch
    from torpor.kernel.idempotent import Idempotent
    from torpor.kernel.order import Order
    from torpor.kernel.pause import Pause
    from torpor.kernel.retry import Retry
    from torpor.kernel.socket import SocketLimits
    from torpor.runtime.rules import Rule


class TopicOptions(TypedDict, total=False):
    """What a handler of a topic may say.

    `retry`: how often a failing message is tried. `batch`: takes a list of events at once. `order`: what a message
    waits for. `concurrency`: how many units run side by side (16; 1 with a batch). `pause`: when to stop for a while.
    `group`: who shares the topic's messages; the service's name unless said. `name`: the handler's, unless it is the
    function's. `publishes`: events that neither the return annotation nor the handler's own code shows. `deadline`: in
    push mode, the seconds (30) after which a message that is still under way is answered, to be sent again.
    """

    retry: Retry
    batch: Batch | None
    order: Order
    concurrency: int | None
    pause: Pause | None
    group: str | None
    name: str | None
    publishes: Sequence[type[Any]]
    deadline: float


class RouteOptions(TypedDict, total=False):
    """What a route may say beside its path: `name` and `publishes` as for `on`, `idempotency` for requests that come
    again, `auth` and `public` for who may call, `rules` for what holds besides, the others as FastAPI means them."""

    auth: Auth
    public: bool
    name: str
    publishes: Sequence[type[Any]]
    idempotency: Idempotent
    rules: Sequence[Rule]
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


class SocketOptions(TypedDict, total=False):
    """What a socket may say beside its path: `connect` and `disconnect` handle what their names say,
    `subprotocols` are those that are spoken, the best first; `sends` names types that clients are sent, beside what the
    handler returns, for the AsyncAPI document; `rules` may be `Limit`, `BodyLimit`, `Timeout` and `Cors`;
    see `SocketLimits` for `limits`, and `RouteOptions` for the others."""

    auth: Auth
    public: bool
    connect: Callable[..., Awaitable[None]]
    disconnect: Callable[..., Awaitable[None]]
    rules: Sequence[Rule]
    sends: Sequence[Any]
    subprotocols: Sequence[str]
    limits: SocketLimits
    name: str
    publishes: Sequence[type[Any]]
