"""The AsyncAPI 3 document. FastStream makes it, over a twin of the broker that is never started."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, create_model
from pydantic.json_schema import models_json_schema

from torpor.adapters.asyncapi.replies import add_replies
from torpor.adapters.asyncapi.schemas import SCHEMAS, Schemas, free, schema_of_type, standing_alone
from torpor.adapters.asyncapi.sockets import add_sockets
from torpor.contract.answer import answer_of
from torpor.contract.payload import content_type_of
from torpor.contract.shapes import schema_of
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.media import JSON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from torpor.contract.event import Contract
    from torpor.runtime.plan import Plan

    Stubs = Mapping[type[Contract], type[BaseModel]]

_NOWHERE = "nats://nowhere"  # FastStream leaves the channels of a broker without a server out
_CORRELATION_ID = "$message.header#/{}correlationid"


def document(
    plans: Sequence[Plan], title: str, *, version: str, broker_url: str | None, web: str = "localhost:8000"
) -> dict[str, Any]:
    """The AsyncAPI 3 document of services: an operation for each subscriber, each contract they publish, each socket.

    The broker's servers are told without user, password and path; a broker in memory has none. `web` is where sockets
    are to be found, unless a client knows better.
    """
    try:
        from faststream.specification import AsyncAPI

        twin = _twin(broker_url)
    except ImportError as error:
        raise ConfigurationError(["AsyncAPI needs FastStream. Install torpor[nats] or torpor[kafka]."]) from error

    names, schemas = _schemas(plans)
    stubs = {contract: create_model(name) for contract, name in names.items()}
    is_kafka = _is_kafka(broker_url)
    for plan in plans:
        _declare(twin, plan, stubs, group="group_id" if is_kafka else "queue")
    made = AsyncAPI(twin, title=title, version=version).to_specification().to_jsonable()
    if not _servers(broker_url):
        made["servers"] = {}
    types = {SCHEMAS + name: content_type_of(contract) for contract, name in names.items()}
    mended = _mended(made, schemas, types, correlation_id=_CORRELATION_ID.format("ce_" if is_kafka else "ce-"))
    add_replies(mended, plans, names)
    add_sockets(mended, plans, web)
    for part in (mended["channels"], mended["operations"], *mended["components"].values()):
        part.update(_sorted({name: part.pop(name) for name in [*part]}))
    return mended


def _twin(broker_url: str | None) -> Any:
    """A broker of FastStream's that is never started. Raises ImportError."""
    servers = _servers(broker_url)
    if _is_kafka(broker_url):
        from faststream.kafka import KafkaBroker

        return KafkaBroker([server.partition("://")[2] for server in servers], protocol_version=None)
    from faststream.nats import NatsBroker

    return NatsBroker(servers or _NOWHERE, protocol_version=None)


def _is_kafka(broker_url: str | None) -> bool:
    return (broker_url or "").startswith("kafka:")


def _declare(twin: Any, plan: Plan, stubs: Stubs, *, group: str) -> None:
    """Declares a service's subscribers and publishers, each under a title of its own."""
    for binding in (*plan.subscribers, *plan.listeners):
        subscriber = twin.subscriber(
            binding.topic,
            **{group: binding.group},
            title=binding.handled.name,
            description=inspect.getdoc(binding.handled.function),
        )
        subscriber(_handler(stubs[binding.contract]))
    for answerer in plan.answerers:
        handled = answerer.handled
        told = inspect.getdoc(handled.function)
        subscriber = twin.subscriber(answerer.topic, **{group: plan.name}, title=handled.name, description=told)
        subscriber(_handler(stubs[answerer.contract]))
    for contract in (*plan.published, *plan.asked):
        stub = stubs[contract]
        twin.publisher(
            contract.__torpor_topic__ or "",
            title=f"{plan.name}.{'asks' if contract.__torpor_is_request__ else 'publishes'}.{stub.__name__}",
            description=inspect.cleandoc(contract.__doc__ or "") or None,
            schema=stub,
        )


def _handler(stub: type[BaseModel]) -> Callable[..., Awaitable[None]]:
    """A handler whose only parameter has the type."""

    async def handler(message: BaseModel) -> None: ...

    handler.__annotations__ = {"message": stub, "return": None}
    return handler


def _schemas(plans: Sequence[Plan]) -> tuple[dict[type[Contract], str], dict[str, Any]]:
    """Each contract's name, and the schemas by name, those of nested models included.

    FastStream names a schema after its class, so that of two classes with one name it keeps the later. pydantic tells
    them apart. So FastStream sees a stub for each contract, with pydantic's name, and pydantic's schemas replace
    those of the stubs.
    """
    contracts = {b.contract: None for plan in plans for b in (*plan.subscribers, *plan.listeners)}
    contracts.update({answerer.contract: None for plan in plans for answerer in plan.answerers})
    contracts.update({contract: None for plan in plans for contract in (*plan.published, *plan.asked)})
    models = [contract for contract in contracts if contract.__torpor_codec__ is None]
    references, definitions = models_json_schema(
        [(contract, "validation") for contract in models],
        ref_template=SCHEMAS + "{model}",
        schema_generator=Schemas,
    )
    names = {contract: references[contract, "validation"]["$ref"].removeprefix(SCHEMAS) for contract in models}
    schemas = dict(definitions.get("$defs", {}))
    for contract in [contract for contract in contracts if contract not in names]:
        names[contract] = free(contract.__name__, schemas)
        schemas[names[contract]] = standing_alone(schema_of(contract) or {}, names[contract], schemas)
    for contract in [contract for contract in contracts if contract.__torpor_is_request__]:
        answer = f"{names[contract]}.answer"
        schemas[answer] = standing_alone(schema_of_type(answer_of(contract)), answer, schemas)
    return names, schemas


def _servers(broker_url: str | None) -> list[str]:
    """The servers' addresses, with nothing in them but scheme, host and port."""
    if broker_url is None or broker_url.startswith("memory:"):
        return []
    servers = []
    for url in broker_url.split(","):
        parts = urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")
        servers.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return servers


def _mended(
    made: dict[str, Any], schemas: dict[str, Any], types: Mapping[str, str], *, correlation_id: str
) -> dict[str, Any]:
    """FastStream's document with what it gets wrong put right.

    Names of components may hold no colon. Its order changes from run to run. Torpor's messages carry the correlation
    id as CloudEvents do. A single server is not for that a "development" one; none has a path, and every channel is
    on all of them, which the document says by silence. And see `_schemas`.
    """
    mended: dict[str, Any] = _without_colons(made)
    messages = mended["components"]["messages"]
    for message in messages.values():
        message["correlationId"] = {"location": correlation_id}
        message["contentType"] = types.get(message["payload"].get("$ref"), JSON)
    for channel in mended["channels"].values():
        channel.pop("servers", None)
    for server in mended["servers"].values():
        server.pop("pathname", None)
    mended["servers"] = {f"broker{n}": server for n, server in enumerate(mended["servers"].values(), 1)}
    mended["channels"] = _sorted(mended["channels"])
    mended["operations"] = _sorted(mended["operations"])
    mended["components"] = {"messages": _sorted(messages), "schemas": _sorted(schemas)}
    return mended


def _sorted(named: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(named.items()))


def _without_colons(node: Any, key: str = "") -> Any:
    """A copy with dots for colons in the names of things and in what points to them."""
    if isinstance(node, dict):
        return {name.replace(":", "."): _without_colons(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_without_colons(value) for value in node]
    if isinstance(node, str) and key in {"$ref", "title"}:
        return node.replace(":", ".")
    return node
