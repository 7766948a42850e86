"""WebSockets in the AsyncAPI document: a channel for each, what clients say there, and what they are sent."""

from __future__ import annotations

import inspect
import re
import types
import typing
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError

from torpor.adapters.asyncapi.schemas import SCHEMAS, schema_of_type, standing_alone
from torpor.kernel.auth import CertificateWay, JwtWay, KeyWay
from torpor.kernel.media import JSON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torpor.kernel.auth import Auth, Way
    from torpor.runtime.plan import Plan, SocketBinding

SERVER = "websockets"
_MEMORY = "memory"
_KIND = re.compile(r":path}")
_UNKNOWN = "What handlers send by hand; its types are not known. Name them: sends=[...]."


def add_sockets(made: dict[str, Any], plans: Sequence[Plan], web: str) -> None:
    """Adds the sockets of services to a document, with a server for them; channels of the broker stay with it."""
    bindings = [binding for plan in plans for binding in plan.sockets]
    if not bindings:
        return
    if made["channels"] and not made["servers"]:
        made["servers"][_MEMORY] = {"host": "localhost", "protocol": "memory", "description": "Inside the process."}
    brokers = [{"$ref": f"#/servers/{name}"} for name in made["servers"]]
    for channel in made["channels"].values():
        if channel["address"] is not None:
            channel["servers"] = brokers
    made["servers"][SERVER] = {
        "host": "{host}",
        "protocol": "ws",
        "variables": {"host": {"default": web, "description": "Where clients reach the services."}},
    }
    for binding in bindings:
        _add(made, binding)


def sent_by(binding: SocketBinding) -> list[Any]:
    """The types of what clients are sent, as far as they are known."""
    returned = list(_parts(binding.message.handled.call.hints.get("return")))
    return list(dict.fromkeys((*returned, *binding.sends)))


def _parts(hint: Any) -> Iterator[Any]:
    """The types that a handler returns, one by one: of a list each is sent by itself."""
    if hint is None or hint is type(None):
        return
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType, list}:
        for part in typing.get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def _add(made: dict[str, Any], binding: SocketBinding) -> None:
    name = binding.handled.name
    channel = f"{name}.socket"
    told = inspect.getdoc(binding.handled.function)
    described = {"description": told} if told else {}
    messages = {"message": _message(made, f"{name}.message", binding.hint)}
    for number, hint in enumerate(sent := sent_by(binding)):
        key = "sent" if len(sent) == 1 else f"sent{number + 1}"
        messages[key] = _message(made, f"{name}.{key}", hint, is_sent=True)
    if not binding.sends and any(handler.socket is not None for handler in binding.handlers):
        made["components"]["messages"][f"{name}.other"] = {"title": f"{name}.other", "description": _UNKNOWN}
        messages["other"] = {"$ref": f"#/components/messages/{name}.other"}
    made["channels"][channel] = {
        "address": _KIND.sub("}", binding.path),
        **described,
        "servers": [{"$ref": f"#/servers/{SERVER}"}],
        "messages": messages,
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }
    if parameters := {key: _parameter(hint) for key, hint in binding.paths.hints.items()}:
        made["channels"][channel]["parameters"] = parameters
    common = {"channel": {"$ref": f"#/channels/{channel}"}, **_security(made, binding.access.auth)}
    at = f"#/channels/{channel}/messages/"
    said, *rest = ({"$ref": at + key} for key in messages)
    made["operations"][name] = {"action": "receive", "title": name, **described, **common, "messages": [said]}
    if rest:
        made["operations"][f"{name}.sends"] = {"action": "send", "title": f"{name}.sends", **common, "messages": rest}


def _message(made: dict[str, Any], name: str, hint: Any, *, is_sent: bool = False) -> dict[str, str]:
    """A message of a type, among the components; a reference to it."""
    components = made["components"]
    schema: Mapping[str, Any]
    if hint is str:
        content_type, schema = "text/plain", {"type": "string"}
    elif hint is bytes:
        content_type, schema = "application/octet-stream", {"type": "string", "format": "binary"}
    else:
        try:
            content_type, schema = JSON, schema_of_type(hint, mode="serialization" if is_sent else "validation")
        except PydanticUserError:  # what a handler returns may be of a type that has none
            components["messages"][name] = {"title": name, "contentType": JSON, "description": f"{hint!r}, as JSON."}
            return {"$ref": f"#/components/messages/{name}"}
    components["schemas"][name] = standing_alone(schema, name, components["schemas"])
    payload = {"$ref": SCHEMAS + name}
    components["messages"][name] = {"title": name, "payload": payload, "contentType": content_type}
    return {"$ref": f"#/components/messages/{name}"}


def _parameter(hint: Any) -> dict[str, Any]:
    """What is known of a parameter in a path: AsyncAPI has texts, and lists of them."""
    schema: Mapping[str, Any] = schema_of_type(hint)
    known = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    kind = schema.get("format") or schema.get("type", "string")
    told: dict[str, Any] = {} if kind == "string" else {"description": f"As text: {kind}."}
    return {**told, "enum": [str(value) for value in known]} if known else told


def _security(made: dict[str, Any], auth: Auth | None) -> dict[str, Any]:
    """The ways of showing who one is, any of which will do."""
    if auth is None:
        return {}
    schemes = made["components"].setdefault("securitySchemes", {})
    needed = ", ".join([*sorted(auth.scopes), *sorted(auth.roles)])
    found = []
    for way in auth.ways:
        scheme = _scheme(way)
        if needed:
            scheme["description"] = f"{scheme['description']} Needs {needed}."
        named = [name for name, other in schemes.items() if other == scheme]
        name = named[0] if named else f"auth{len(schemes) + 1}"
        schemes[name] = scheme
        found.append({"$ref": f"#/components/securitySchemes/{name}"})
    return {"security": found}


def _scheme(way: Way) -> dict[str, Any]:
    if isinstance(way, JwtWay):
        told = f"A token of {way.issuer} for {way.audience}."
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": told}
    if isinstance(way, KeyWay):
        return {"type": "httpApiKey", "in": "header", "name": way.header, "description": "An API key."}
    if isinstance(way, CertificateWay):
        return {"type": "X509", "description": "A client certificate that the gateway has checked."}
    return {"type": "http", "scheme": "custom", "description": "By a function of the service's own."}
