"""Event-driven services that sleep at zero and wake at once."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is none of the front door's imports: a port is to be open before it
if TYPE_CHECKING:
    from torpor.adapters.http.events import Events, LastEventId, Sent
    from torpor.adapters.http.graphql import GraphQL, GraphQLContext
    from torpor.adapters.httpx.client import Http
    from torpor.contract.declaring import command, event
    from torpor.contract.event import Command, Event, Request
    from torpor.contract.payload import Raw
    from torpor.kernel.auth import ApiKeys, Auth, ClientCertificate, CustomAuth, Jwt
    from torpor.kernel.batch import Batch
    from torpor.kernel.cached import Cached
    from torpor.kernel.cors import Cors
    from torpor.kernel.errors import ConfigurationError, TorporError
    from torpor.kernel.idempotent import Idempotent
    from torpor.kernel.identity import Caller
    from torpor.kernel.limit import BodyLimit, Limit
    from torpor.kernel.message import Message
    from torpor.kernel.order import Order
    from torpor.kernel.outcome import Failed, Park
    from torpor.kernel.pause import Pause
    from torpor.kernel.preconditions import Match, MustMatch
    from torpor.kernel.query import QueryLimits
    from torpor.kernel.representation import Compressed, Deprecated, ETags
    from torpor.kernel.retry import Retry
    from torpor.kernel.socket import SocketLimits
    from torpor.kernel.topic import Topic
    from torpor.kernel.versioned import Versioned
    from torpor.ports.payload import PayloadCodec
    from torpor.runtime.asking import Ask
    from torpor.runtime.breaker import Breaker
    from torpor.runtime.connection import Socket
    from torpor.runtime.dependency import Depends
    from torpor.runtime.ids import new_id
    from torpor.runtime.paging import Cursor, Keyset, Page
    from torpor.runtime.router import Router
    from torpor.runtime.secret import Secret
    from torpor.runtime.service import Service
    from torpor.runtime.sockets import Sockets
    from torpor.runtime.steps import StepKey
    from torpor.runtime.timeout import Timeout
    from torpor.runtime.tx import Transactions, Tx

__all__ = [
    "ApiKeys",
    "Ask",
    "Auth",
    "Batch",
    "BodyLimit",
    "Breaker",
    "Cached",
    "Caller",
    "ClientCertificate",
    "Command",
    "Compressed",
    "ConfigurationError",
    "Cors",
    "Cursor",
    "CustomAuth",
    "Depends",
    "Deprecated",
    "ETags",
    "Event",
    "Events",
    "Failed",
    "GraphQL",
    "GraphQLContext",
    "Http",
    "Idempotent",
    "Jwt",
    "Keyset",
    "LastEventId",
    "Limit",
    "Match",
    "Message",
    "MustMatch",
    "Order",
    "Page",
    "Park",
    "Pause",
    "PayloadCodec",
    "QueryLimits",
    "Raw",
    "Request",
    "Retry",
    "Router",
    "Secret",
    "Sent",
    "Service",
    "Socket",
    "SocketLimits",
    "Sockets",
    "StepKey",
    "Timeout",
    "Topic",
    "TorporError",
    "Transactions",
    "Tx",
    "Versioned",
    "__version__",
    "command",
    "event",
    "new_id",
]

__version__ = "0.1.0"

_HOMES = {
    "ApiKeys": "torpor.kernel.auth",
    "Ask": "torpor.runtime.asking",
    "Auth": "torpor.kernel.auth",
    "Batch": "torpor.kernel.batch",
    "BodyLimit": "torpor.kernel.limit",
    "Breaker": "torpor.runtime.breaker",
    "Cached": "torpor.kernel.cached",
    "Caller": "torpor.kernel.identity",
    "ClientCertificate": "torpor.kernel.auth",
    "Command": "torpor.contract.event",
    "Compressed": "torpor.kernel.representation",
    "ConfigurationError": "torpor.kernel.errors",
    "Cors": "torpor.kernel.cors",
    "Cursor": "torpor.runtime.paging",
    "CustomAuth": "torpor.kernel.auth",
    "Depends": "torpor.runtime.dependency",
    "Deprecated": "torpor.kernel.representation",
    "ETags": "torpor.kernel.representation",
    "Event": "torpor.contract.event",
    "Events": "torpor.adapters.http.events",
    "Failed": "torpor.kernel.outcome",
    "GraphQL": "torpor.adapters.http.graphql",
    "GraphQLContext": "torpor.adapters.http.graphql",
    "Http": "torpor.adapters.httpx.client",
    "Idempotent": "torpor.kernel.idempotent",
    "Jwt": "torpor.kernel.auth",
    "Keyset": "torpor.runtime.paging",
    "LastEventId": "torpor.adapters.http.events",
    "Limit": "torpor.kernel.limit",
    "Match": "torpor.kernel.preconditions",
    "Message": "torpor.kernel.message",
    "MustMatch": "torpor.kernel.preconditions",
    "Order": "torpor.kernel.order",
    "Page": "torpor.runtime.paging",
    "Park": "torpor.kernel.outcome",
    "Pause": "torpor.kernel.pause",
    "PayloadCodec": "torpor.ports.payload",
    "QueryLimits": "torpor.kernel.query",
    "Raw": "torpor.contract.payload",
    "Request": "torpor.contract.event",
    "Retry": "torpor.kernel.retry",
    "Router": "torpor.runtime.router",
    "Secret": "torpor.runtime.secret",
    "Sent": "torpor.adapters.http.events",
    "Service": "torpor.runtime.service",
    "Socket": "torpor.runtime.connection",
    "SocketLimits": "torpor.kernel.socket",
    "Sockets": "torpor.runtime.sockets",
    "StepKey": "torpor.runtime.steps",
    "Timeout": "torpor.runtime.timeout",
    "Topic": "torpor.kernel.topic",
    "TorporError": "torpor.kernel.errors",
    "Transactions": "torpor.runtime.tx",
    "Tx": "torpor.runtime.tx",
    "Versioned": "torpor.kernel.versioned",
    "command": "torpor.contract.declaring",
    "event": "torpor.contract.declaring",
    "new_id": "torpor.runtime.ids",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'torpor' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
