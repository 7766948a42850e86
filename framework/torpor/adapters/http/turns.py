"""What routes ask for about their requests, and then tell in their answers; FastAPI fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torpor.runtime.asked import is_match, keyset_in

if TYPE_CHECKING:
    import inspect
    from collections.abc import Awaitable, Callable, Sequence

    from torpor.runtime.plan import RouteBinding

    Endpoint = Callable[..., Awaitable[Any]]


class Turn(Protocol):
    """What a handler is given of one request, and what its answer then tells."""

    @property
    def value(self) -> Any:
        """What the handler's parameter is filled with."""
        ...

    def tell(self, result: Any) -> None:
        """Adds to the answer."""
        ...

    def explain(self, error: Exception) -> None:
        """Raises what the handler's failure is answered with, if it is the request's."""
        ...


def turned(binding: RouteBinding) -> tuple[list[inspect.Parameter], list[str]]:
    """The parameters that FastAPI fills, and the names of those for which it gives a `Turn`."""
    parameters, names = [], []
    for parameter in binding.foreign:
        annotation = _turn_of(binding, parameter.annotation)
        if annotation is None:
            parameters.append(parameter)
        else:
            parameters.append(parameter.replace(annotation=annotation, default=parameter.empty))
            names.append(parameter.name)
    return parameters, names


def taking_turns(endpoint: Endpoint, names: Sequence[str]) -> Endpoint:
    """An endpoint some of whose arguments are turns."""

    async def take_turns(**arguments: Any) -> Any:
        turns: list[Turn] = [arguments[name] for name in names]
        arguments.update((name, turn.value) for name, turn in zip(names, turns, strict=True))
        try:
            result = await endpoint(**arguments)
        except Exception as error:
            for turn in turns:
                turn.explain(error)
            raise
        for turn in turns:
            turn.tell(result)
        return result

    return take_turns


def describe_turns(binding: RouteBinding, operation: dict[str, Any]) -> None:
    """What OpenAPI says of them, beside what FastAPI knows of their parameters."""
    responses = operation["responses"]
    success = responses.get(str(binding.options.get("status_code", 200)), {})
    for parameter in binding.foreign:
        if keyset_in(parameter.annotation) is not None:
            from torpor.adapters.http.paging import LINK

            success.setdefault("headers", {}).setdefault("Link", LINK)
        elif is_match(parameter.annotation):
            from torpor.adapters.http.matching import describe_matching

            describe_matching(binding, responses, success)


def _turn_of(binding: RouteBinding, hint: Any) -> Any:
    keyset = keyset_in(hint)
    if keyset is not None:
        from torpor.adapters.http.paging import turn_of

        return turn_of(keyset, binding.handled.name)
    if is_match(hint):
        from torpor.adapters.http.matching import matched_of

        return matched_of(binding)
    return None
