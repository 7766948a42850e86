"""The AsyncAPI 3 document. FastStream makes it, over a twin of the broker that is never started."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

    from torpor.contract.event import Contract
    from torpor.runtime.plan import Plan

    Stubs = Mapping[type[Contract], type[BaseModel]]

_SCHEMAS = "#/components/schemas/"
_NOWHERE = "nats://nowhere"  # FastStream leaves the channels of a broker without a server out
_CORRELATION_ID = "$message.header#/ce-correlationid"


def document(plans: Sequence[Plan], title: str, *, version: str, broker_url: str | None) -> dict[str, Any]:
    """The AsyncAPI 3 document of services: an operation for each subscriber and for each contract they publish.

    The broker's servers are told without user, password and path; a broker in memory has none.
    """
    try:
        from faststream.nats import NatsBroker
        from faststream.specification import AsyncAPI
    except ImportError as error:
        raise ConfigurationError(["AsyncAPI needs FastStream. Install torpor[nats] or torpor[kafka]."]) from error

    names, schemas = _schemas(plans)
    stubs = {contract: create_model(name) for contract, name in names.items()}
    servers = _servers(broker_url)
    twin = NatsBroker(servers or _NOWHERE, protocol_version=None)
    for plan in plans:
        _declare(twin, plan, stubs)
    made = AsyncAPI(twin, title=title, version=version).to_specification().to_jsonable()
    if not servers:
        made["servers"] = {}
    return _mended(made, schemas)


def _declare(twin: Any, plan: Plan, stubs: Stubs) -> None:
    """Declares a service's subscribers and publishers, each under a title of its own."""
    for binding in plan.subscribers:
        subscriber = twin.subscriber(
            binding.topic,
            queue=binding.group,
            title=binding.handled.name,
            description=inspect.getdoc(binding.handled.function),
        )
        subscriber(_handler(stubs[binding.contract]))
    for contract in plan.published:
        stub = stubs[contract]
        twin.publisher(
            contract.__torpor_topic__ or "",
            title=f"{plan.name}.publishes.{stub.__name__}",
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
    contracts = {b.contract: None for plan in plans for b in plan.subscribers}
    contracts.update({contract: None for plan in plans for contract in plan.published})
    references, definitions = models_json_schema(
        [(contract, "validation") for contract in contracts],
        ref_template=_SCHEMAS + "{model}",
        schema_generator=_Schemas,
    )
    names = {contract: references[contract, "validation"]["$ref"].removeprefix(_SCHEMAS) for contract in contracts}
    return names, definitions.get("$defs", {})


class _Schemas(GenerateJsonSchema):
    """JSON Schema as AsyncAPI takes it: a discriminator is the name of a property."""

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        made = super().tagged_union_schema(schema)
        discriminator = made.get("discriminator")
        if isinstance(discriminator, dict):
            made["discriminator"] = discriminator["propertyName"]
        return made


def _servers(broker_url: str | None) -> list[str]:
    """The servers' addresses, with nothing in them but scheme, host and port."""
    if broker_url is None or broker_url.startswith("memory:"):
        return []
    servers = []
    for url in broker_url.split(","):
        parts = urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")
        servers.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return servers


def _mended(made: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """FastStream's document with what it gets wrong put right.

    Names of components may hold no colon. Its order changes from run to run. Torpor's messages carry the correlation
    id as CloudEvents do. A single server is not for that a "development" one; none has a path, and every channel is
    on all of them, which the document says by silence. And see `_schemas`.
    """
    mended: dict[str, Any] = _without_colons(made)
    messages = mended["components"]["messages"]
    for message in messages.values():
        message["correlationId"] = {"location": _CORRELATION_ID}
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
