"""GraphQL: a strawberry schema behind a route, whose resolvers share one transaction for each request."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from contextlib import asynccontextmanager
from copy import copy
from types import CodeType
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack, get_type_hints

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from torpor.adapters.http.developing import DevelopersPage, is_in_development
from torpor.adapters.http.guarding import IDENTITY
from torpor.adapters.http.problems import trace_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, NotRunning, StoreUnavailable, did_you_mean
from torpor.kernel.query import QueryLimits
from torpor.runtime.dependency import Depends
from torpor.runtime.publishing import named
from torpor.runtime.router import Router
from torpor.runtime.tx import Transactions, Tx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from graphql import GraphQLError

    from torpor.kernel.auth import Auth
    from torpor.kernel.identity import Caller
    from torpor.runtime.rules import Rule

_OWN_TYPE, _JSON = "application/graphql-response+json", "application/json"
_AWAY = (StoreUnavailable, BrokerUnavailable, NotRunning)
_FAILED = "This failed."
_FAILURE, _MISTAKEN = 500, 400
_log = logging.getLogger("torpor.graphql")


class GraphQLOptions(TypedDict, total=False):
    """What a `GraphQL` may say beside its path and its schema."""

    auth: Auth
    public: bool
    rules: Sequence[Rule]
    name: str
    publishes: Sequence[type[Any]]
    context: Callable[..., Any]
    limits: QueryLimits
    explorable: bool
    database: bool


class Asked(BaseModel):
    """A request of GraphQL."""

    query: str = Field(min_length=1)
    variables: dict[str, Any] | None = None
    operation_name: str | None = Field(default=None, alias="operationName")


class Told(BaseModel):
    """What a request of GraphQL is answered."""

    data: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


class GraphQLContext:
    """What resolvers find in `info.context`, of one request.

    ```python
    import strawberry


    @strawberry.type
    class Query:
        @strawberry.field
        async def orders(self, info: strawberry.Info[GraphQLContext]) -> int:
            async with info.context.tx() as tx:
                return len(await tx.fetch("SELECT id FROM orders"))
    ```

    `caller` is whom `auth=` has let in, `request` the request, and `value` what the function `context=` has made.
    """

    __slots__ = ("_holder", "_lock", "_tx", "caller", "request", "value")

    def __init__(
        self, request: Request, *, tx: Tx | None = None, caller: Caller | None = None, value: Any = None
    ) -> None:
        self._tx = tx
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self.request = request
        self.caller = caller
        self.value = value

    @asynccontextmanager
    async def tx(self) -> AsyncIterator[Tx]:
        """The request's transaction, for one resolver at a time: those of a query run side by side, and a transaction
        does one thing after the other."""
        if self._tx is None:
            raise ConfigurationError(
                ["A resolver asks for a transaction, and nothing told that it would. Give GraphQL(...) database=True."]
            )
        task = asyncio.current_task()
        if self._holder is task:
            yield self._tx
            return
        async with self._lock:
            self._holder = task
            try:
                yield self._tx
            finally:
                self._holder = None


class GraphQL(Router):
    """Answers GraphQL by a strawberry schema. Include it in a service, or in a router.

    ```python
    import strawberry


    @strawberry.type
    class Query:
        @strawberry.field
        def hello(self) -> str:
            return "world"


    orders.include(GraphQL("/graphql", strawberry.Schema(Query), public=True))
    ```

    Resolvers find `GraphQLContext` in `info.context`. Each request has one transaction, which is committed once all
    of it has gone well: a mutation that fails leaves nothing, and publishes nothing. `limits` bound what a query may
    ask for. Introspection and the page to try queries are off but in `torpor dev`, or with `explorable=True`. What
    resolvers publish is read from their code, as that of handlers is; `publishes=` adds to it, and `database=` says
    whether they ask for a transaction where their code does not show it. Needs `torpor[graphql]`.
    """

    def __init__(self, path: str, schema: Any, **options: Unpack[GraphQLOptions]) -> None:
        _check(schema, options)
        auth, public = options.get("auth"), options.get("public", False)
        super().__init__(auth=auth, public=public, rules=options.get("rules", ()))
        name = options.get("name", "graphql")
        resolvers = list(_resolvers(schema))
        published = {contract for resolver in resolvers for contract in named(resolver)}
        uses_tx = options.get("database", any(_names_tx(resolver.__code__) for resolver in resolvers))
        server = _Server(schema, options.get("limits", QueryLimits()), explorable=options.get("explorable"))
        answer = _handler(server, options.get("context"), uses_tx=uses_tx)
        answers: dict[int | str, dict[str, Any]] = {200: {"model": Told}}
        publishes = [*published, *options.get("publishes", ())] if uses_tx else list(options.get("publishes", ()))
        self.post(path, name=name, publishes=publishes, responses=answers, summary="GraphQL")(answer)
        explorable = options.get("explorable")
        if explorable is not False:
            page = server.page if explorable else server.developers_page
            self.get(path, name=f"{name}_page", include_in_schema=False, public=True)(page)


class _TakenBack(Exception):  # takes the transaction of an answer with errors back
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class _Server:
    """Executes requests on a schema."""

    def __init__(self, schema: Any, limits: QueryLimits, *, explorable: bool | None) -> None:
        from strawberry.schema.base import BaseSchema

        self._schema = copy(schema)
        if type(schema).process_errors is BaseSchema.process_errors:
            self._schema.process_errors = _leave_to_us
        self._limits = limits
        self._explorable = explorable

    async def answer(self, asked: Asked, context: GraphQLContext) -> Response:
        """Answers one request. Raises _TakenBack with the answer when its transaction is to be undone."""
        from graphql import GraphQLError

        from torpor.adapters.http.querying import operation_of

        request = context.request
        try:
            is_mutation = operation_of(
                asked.query, asked.operation_name, self._limits, may_introspect=self._is_explorable(request)
            )
        except GraphQLError as error:
            return _rendered(request, {"errors": [error.formatted]}, is_executed=False)
        result = await self._schema.execute(
            asked.query, variable_values=asked.variables, context_value=context, operation_name=asked.operation_name
        )
        errors = result.errors or []
        away = next((error.original_error for error in errors if isinstance(error.original_error, _AWAY)), None)
        if away is not None:
            raise away
        # What a mutation has done beside what failed is undone with it, so none of it is told as done.
        data = None if errors and is_mutation else result.data
        told: dict[str, Any] = {"data": data}
        if errors:
            told["errors"] = [_told(error, request) for error in errors]
        if result.extensions:
            told["extensions"] = result.extensions
        is_executed = not isinstance(result, _not_executed())
        response = _rendered(request, told if is_executed else {"errors": told["errors"]}, is_executed=is_executed)
        if errors:
            raise _TakenBack(response)
        return response

    async def page(self) -> HTMLResponse:
        """The page to try queries."""
        return HTMLResponse(_page())

    async def developers_page(self) -> DevelopersPage:
        """The same, where there are developers alone."""
        return DevelopersPage(_page())

    def _is_explorable(self, request: Request) -> bool:
        return is_in_development(request.scope) if self._explorable is None else self._explorable


def _page() -> str:
    from strawberry.http.ides import get_graphql_ide_html

    return get_graphql_ide_html()


def _handler(server: _Server, context: Callable[..., Any] | None, *, uses_tx: bool) -> Callable[..., Any]:
    """The route's handler, which asks for what the resolvers need, and for no more."""

    async def graphql(
        asked: Asked, request: Request, transactions: Transactions | None = None, value: Any = None
    ) -> Response:
        caller = request.scope.get(IDENTITY)
        try:
            if transactions is None:
                return await server.answer(asked, GraphQLContext(request, caller=caller, value=value))
            async with transactions() as tx:
                return await server.answer(asked, GraphQLContext(request, tx=tx, caller=caller, value=value))
        except _TakenBack as taken:
            return taken.response

    hints: dict[str, Any] = {"asked": Asked, "request": Request}
    if uses_tx:
        hints["transactions"] = Transactions
    if context is not None:
        hints["value"] = Annotated[Any, Depends(context)]
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, annotation=hint) for name, hint in hints.items()]
    graphql.__annotations__ = {**hints, "return": Response}
    graphql.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what it is bound by
    graphql.__doc__ = "Answers a query or a mutation, which is done whole or not at all."
    return graphql


def _check(schema: Any, options: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for what cannot be served."""
    try:
        import strawberry
    except ImportError as error:
        raise ConfigurationError(["GraphQL needs strawberry. Install torpor[graphql]."]) from error
    problems = []
    if not isinstance(schema, strawberry.Schema):
        problems.append(
            f"GraphQL was given {schema!r}. Expected a schema: strawberry.Schema(Query, mutation=Mutation)."
        )
    known = GraphQLOptions.__annotations__
    strange = sorted(options.keys() - known.keys())
    problems += [f"GraphQL has an unknown option {option!r}.{did_you_mean(option, known)}" for option in strange]
    context = options.get("context")
    if context is not None and Tx in get_type_hints(context.__init__ if inspect.isclass(context) else context).values():
        problems.append(
            f"GraphQL has context={context!r}, which asks for Tx. Resolvers have theirs: async with info.context.tx()."
        )
    if problems:
        raise ConfigurationError(problems)


def _resolvers(schema: Any) -> Iterator[Callable[..., Any]]:
    """The functions behind the fields of a schema."""
    for kind in schema.schema_converter.type_map.values():
        for field in getattr(kind.definition, "fields", ()):
            resolver = getattr(field, "base_resolver", None)
            function = None if resolver is None else inspect.unwrap(resolver.wrapped_func)
            if inspect.isfunction(function):
                yield function


def _names_tx(code: CodeType) -> bool:
    """Whether a function's code has the word `tx`, as `info.context.tx()` does."""
    return "tx" in code.co_names or any(_names_tx(inner) for inner in code.co_consts if isinstance(inner, CodeType))


def _not_executed() -> type[Any]:
    from strawberry.types.execution import PreExecutionError

    return PreExecutionError


def _leave_to_us(errors: list[GraphQLError], execution_context: object = None) -> None:
    """In place of strawberry's own log, which tells a client's mistakes as errors."""


def _told(error: GraphQLError, request: Request) -> dict[str, Any]:
    """An error as a client may see it: what a resolver raised for it, and of a failure that it was one."""
    from graphql import GraphQLError

    told: dict[str, Any] = {**error.formatted}
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        return told
    if isinstance(original, HTTPException) and original.status_code < _FAILURE:
        return {**told, "message": str(original.detail), "extensions": {"status": original.status_code}}
    trace = trace_of(request.scope)
    where = ".".join(str(part) for part in error.path or ())
    _log.error("%s failed in %s", where, request.url.path, exc_info=original, extra={"trace_id": trace})
    return {**told, "message": _FAILED, "extensions": {"trace_id": trace}}


def _rendered(request: Request, told: Mapping[str, Any], *, is_executed: bool) -> Response:
    """An answer, by the media type that the client takes. By GraphQL's own, what was not executed is answered 400."""
    body = json.dumps(told, allow_nan=False)
    if _OWN_TYPE in request.headers.get("accept", ""):
        return Response(body, 200 if is_executed else _MISTAKEN, media_type=f"{_OWN_TYPE}; charset=utf-8")
    return Response(body, media_type=_JSON)
