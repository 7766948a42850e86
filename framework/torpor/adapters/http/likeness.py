"""Which requests of a route are alike, so that one answer may be given to all of them."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from torpor.adapters.http.guarding import CALLER, IDENTITY
from torpor.adapters.http.representing import takes_gzip
from torpor.kernel import limit as kinds
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.representation import Compressed
from torpor.runtime.rules import HANDED_ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.routing import Route
    from starlette.types import Scope

    from torpor.kernel.cached import Cached, Directives
    from torpor.kernel.identity import Caller
    from torpor.runtime.plan import RouteBinding

    Headers = list[tuple[bytes, bytes]]

# Conditions are held against what is kept, and what the guard reads tells callers apart already.
_NOT_ASKED = frozenset({"if-match", "if-modified-since", "if-none-match", "if-unmodified-since"})
_OF_ONE_TOKEN = frozenset({"auth_time", "exp", "iat", "jti", "nbf"})
_OURS = "torpor."


class Likeness:
    """What makes requests of a route alike: all that its answers may depend on is the same."""

    __slots__ = ("handler", "headers", "is_callers", "is_compressed")

    def __init__(self, route: Route, binding: RouteBinding, cached: Cached) -> None:
        has_auth = binding.access.auth is not None
        self.handler = binding.handled.name
        self.is_callers = has_auth if cached.by is None else cached.by == kinds.CALLER
        self.is_compressed = binding.access.rules is not None and binding.access.rules.of(Compressed) is not None
        asked = set(cached.vary)
        for dependant in _dependants(getattr(route, "dependant", None)):
            asked |= _headers_of(dependant)
            if _sees_all(dependant) and cached.by is None and not has_auth:  # whatever was not seen when it was bound
                raise ConfigurationError([f"Handler {self.handler!r} ({binding.handled.location}) {HANDED_ALL}"])
        self.headers = tuple(sorted(asked - _NOT_ASKED))

    def key_of(self, scope: Scope) -> str:
        """Under which an answer is kept."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query.sort(key=lambda pair: pair[0])  # those of one name stay in their order
        parts = [scope.get("scheme", ""), scope["path"], urlencode(query)]
        parts += [header_of(scope, name) for name in ("host", *self.headers)]
        parts.append(_who(scope[CALLER], scope[IDENTITY]) if self.is_callers else "")
        if self.is_compressed:
            parts.append(str(takes_gzip(header_of(scope, "accept-encoding").encode("latin-1"))))
        text = "\0".join(f"{len(part)} {part}" for part in parts)
        return f"{self.handler}:{blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=20).hexdigest()}"

    def may_keep(self, directives: Directives, headers: Headers) -> bool:
        """Whether an answer may be given to whoever asks the same."""
        known = {*self.headers, "accept-encoding"} if self.is_compressed else {*self.headers}
        has_secret = any(name == b"set-cookie" for name, _ in headers)
        return listed(headers, b"vary") <= known and not has_secret and directives.may_keep(is_callers=self.is_callers)


def _dependants(dependant: Any) -> Iterator[Any]:
    """What FastAPI fills a handler's parameters by, with all that they depend on."""
    if dependant is not None:
        yield dependant
        for inner in dependant.dependencies:
            yield from _dependants(inner)


def _headers_of(dependant: Any) -> set[str]:
    """The headers that a dependency asks for."""
    asked = {"cookie"} if dependant.cookie_params else set()
    for field in dependant.header_params:
        inner = getattr(field.field_info.annotation, "model_fields", None)
        if inner is None:
            asked.add(field.alias.lower())
        else:
            asked |= {(named.alias or name.replace("_", "-")).lower() for name, named in inner.items()}
    return asked


def _sees_all(dependant: Any) -> bool:
    """Whether a dependency is handed the whole request, so that nobody knows what it reads of it."""
    is_ours = getattr(dependant.call, "__module__", "").startswith(_OURS)
    return not is_ours and bool(dependant.request_param_name or dependant.http_connection_param_name)


def _who(named: str, caller: Caller) -> str:
    """A caller as a handler may see it: by another token the same person may be of another tenant, or have other roles.
    What differs from one token to the next alone is left out."""
    claims = {name: claim for name, claim in caller.claims.items() if name not in _OF_ONE_TOKEN}
    told = [named, sorted(caller.scopes), sorted(caller.roles), claims]
    return json.dumps(told, sort_keys=True, default=repr)


def header_of(scope: Scope, wanted: str) -> str:
    """A header of a request; empty when it has none."""
    name = wanted.encode("latin-1")
    return ",".join(str(value, "latin-1") for other, value in scope["headers"] if other == name)


def listed(headers: Headers, wanted: bytes) -> set[str]:
    """The names that a header of an answer lists, in lower case."""
    return {name.strip().lower() for name in value_of(headers, wanted).split(",")} - {""}


def value_of(headers: Headers, wanted: bytes) -> str:
    """A header of an answer; empty when it has none."""
    return ",".join(str(value, "latin-1") for name, value in headers if name == wanted)
