"""The `Idempotency-Key` of a request: answered once, and then as it was the first time.

By the draft "The Idempotency-Key HTTP Header Field" of the IETF: 400 for a key that is missing or malformed, 422 for a
key that was used for another request, 409 while the first request with it is being handled.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from torpor.adapters.http.guarding import CALLER, IDENTITY
from torpor.kernel.errors import ConfigurationError
from torpor.ports.requests import Answer
from torpor.runtime.idempotency import Answered, KeyedRequest, Reused, UnderWay, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torpor.kernel.idempotent import Idempotent
    from torpor.runtime.host import Host
    from torpor.runtime.plan import RouteBinding
    from torpor.runtime.tx import Tx

    Handle = Callable[[Request], Awaitable[Response]]


_ONCE = "torpor.once"  # in a request's scope, when it has a key
_HEADER = "Idempotency-Key"
_REPLAYED = "Idempotency-Replayed"
_LONGEST_KEY = 255
_LONGEST_ANSWER = 1_048_576
_BAD_REQUEST, _CONFLICT, _UNPROCESSABLE, _FAILURE = 400, 409, 422, 500
# What is of one exchange alone, and what is a secret.
_NOT_KEPT = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "set-cookie", "transfer-encoding"}
)


class _Failed(Exception):  # takes an answer past the transaction, and so rolls it back
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Once:
    """One request with a key, while FastAPI handles it. The transaction is opened when the arguments are there (so
    whoever may not ask is refused before anything is told), and ended when the answer is rendered."""

    __slots__ = ("_body", "_exits", "_host", "_key", "_policy", "_request", "keyed")

    def __init__(self, host: Host, policy: Idempotent, request: Request, *, key: str, body: bytes) -> None:
        self._host = host
        self._policy = policy
        self._request = request
        self._key = key
        self._body = body
        self._exits = AsyncExitStack()
        self.keyed: KeyedRequest | None = None

    async def answer(self, binding: RouteBinding, handle: Handle) -> Response:
        """Handles the request. What the transaction knows of the key already is raised."""
        self._request.scope[_ONCE] = self
        try:
            async with self._exits:
                response = await handle(self._request)
                if response.status_code >= _FAILURE:
                    raise _Failed(response)
                if self.keyed is not None:
                    self.keyed.answer = _kept(response, self.keyed.fingerprint, binding)
        except _Failed as failed:
            return failed.response
        return response

    async def open(self, binding: RouteBinding) -> Tx:
        """Opens the transaction for the handler, and looks the key up in it."""
        scope = self._request.scope
        path = scope["path"].encode("utf-8", "surrogatepass")
        fingerprint = fingerprint_of([scope["method"].encode(), path, scope["query_string"], self._body])
        self.keyed = KeyedRequest(self._key, fingerprint, self._policy, caller=scope.get(CALLER))
        caller = scope.get(IDENTITY)
        return await self._exits.enter_async_context(self._host.transaction(binding.handled, self.keyed, caller=caller))


async def once_of(request: Request) -> Any:
    """For FastAPI: what the endpoint opens its transaction by, when the request has a key."""
    return request.scope.get(_ONCE)


def route_of(host: Host, binding: RouteBinding, policy: Idempotent) -> type[APIRoute]:
    """The kind of route that answers a key once. FastAPI reads, checks and renders inside it: so the answer is known
    before the commit."""

    class OnceRoute(APIRoute):
        def get_route_handler(self) -> Any:
            handle = super().get_route_handler()

            async def handle_once(request: Request) -> Response:
                key = _key_of(request, policy)
                if key is None:
                    return await handle(request)
                once = Once(host, policy, request, key=key, body=await _body_of(request))
                try:
                    return await once.answer(binding, handle)
                except Answered as known:
                    host.metrics.of(binding.handled.name).duplicate += 1
                    return _replayed(known.answer)
                except UnderWay as error:
                    told = f"A request with this {_HEADER} is being handled. Try again soon."
                    raise HTTPException(_CONFLICT, told, headers={"Retry-After": "1"}) from error
                except Reused as error:
                    told = f"This {_HEADER} was used for another request. Send the same request, or use a new key."
                    raise HTTPException(_UNPROCESSABLE, told) from error

            return handle_once

    return OnceRoute


def documentation(policy: Idempotent) -> dict[str, Any]:
    """What OpenAPI says of such a route, beside what FastAPI knows."""
    return {
        "parameters": [
            {
                "name": _HEADER,
                "in": "header",
                "required": policy.required,
                "description": "A text of the client's own for this request. Sent again, it is answered as before.",
                "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY},
            }
        ],
        "responses": {
            "400": {"description": f"The {_HEADER} is missing or malformed."},
            "409": {"description": f"The first request with this {_HEADER} is being handled. Try again soon."},
            "422": {"description": f"The request is not valid, or its {_HEADER} was used for another request."},
        },
    }


def _key_of(request: Request, policy: Idempotent) -> str | None:
    """The key, without the quotes that the draft asks for and few clients send. Raises HTTPException."""
    values = request.headers.getlist(_HEADER)
    if not values:
        if policy.required:
            raise HTTPException(_BAD_REQUEST, f"This request needs an {_HEADER}: a new one, such as a random UUID.")
        return None
    key = values[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or not 1 <= len(key) <= _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise HTTPException(
            _BAD_REQUEST, f"The {_HEADER} must be one text of 1 to {_LONGEST_KEY} printable ASCII characters."
        )
    return key


async def _body_of(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise HTTPException(_BAD_REQUEST, "The body did not come whole.") from error


def _kept(response: Response, fingerprint: str, binding: RouteBinding) -> Answer:
    """An answer as it is kept. Raises ConfigurationError for one that cannot be."""
    body = getattr(response, "body", None)
    where = f"Handler {binding.handled.name!r} ({binding.handled.location})"
    if not isinstance(body, bytes):
        raise ConfigurationError(
            [
                (
                    f"{where} has idempotency=, and answered with {type(response).__name__}, whose bytes cannot be "
                    "kept. Answer with a value or a plain Response."
                )
            ]
        )
    if len(body) > _LONGEST_ANSWER:
        raise ConfigurationError(
            [
                (
                    f"{where} has idempotency=, and answered with {len(body)} bytes, over the {_LONGEST_ANSWER} that "
                    "are kept. Answer with less, such as a link to it."
                )
            ]
        )
    headers = [(name, value) for name, value in response.headers.items() if name not in _NOT_KEPT]
    return Answer(fingerprint, response.status_code, headers, body)


def _replayed(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        response.headers.append(name, value)
    response.headers[_REPLAYED] = "true"
    return response
