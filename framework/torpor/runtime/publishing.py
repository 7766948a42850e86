"""What a handler publishes, read from its annotations and its code, without running it."""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

from torpor.contract.declaring import is_contract
from torpor.kernel.outcome import Failed, Park

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torpor.contract.event import Contract
    from torpor.runtime.injection import Call

_COLLECTIONS = (list, tuple, set, frozenset)


def returned(hint: Any, *, is_batch: bool = False) -> tuple[set[type[Contract]], list[str]]:
    """The contracts in a return annotation, and the names of what cannot be returned. A batch may return Failed."""
    found: set[type[Contract]] = set()
    strange: list[str] = []
    for part in _parts(hint):
        if is_contract(part):
            found.add(part)
        elif part not in (None, type(None), Park, Ellipsis) and not (is_batch and part is Failed):
            strange.append(getattr(part, "__name__", str(part)))
    return found, strange


def named(function: Callable[..., Any]) -> set[type[Contract]]:
    """The contracts that a function's code names, directly or as an attribute of a module."""
    return {value for value in _values(function) if _is_concrete(value)}


def _values(function: Callable[..., Any]) -> list[Any]:
    """What the names in a function's code stand for."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    names = set(_names(code))
    scope = inspect.getclosurevars(function)
    values = [value for name, value in {**scope.globals, **scope.nonlocals}.items() if name in names]
    values += [getattr(value, name, None) for value in values if inspect.ismodule(value) for name in names]
    return values


def named_in(call: Call) -> set[type[Contract]]:
    """The contracts that a handler's code names, or its dependencies', or that a route takes in and may pass on."""
    found = named(call.function)
    found |= {parameter.annotation for parameter in call.foreign if _is_concrete(parameter.annotation)}
    return found.union(*(named_in(inner) for _, inner in call.depends))


def asked_in(call: Call) -> set[type[Contract]]:
    """The requests that a handler's code names, or its dependencies', when one of them asks."""
    if not call.uses_ask:
        return set()
    found = {value for value in _values(call.function) if _is_request(value)}
    return found.union(*(asked_in(inner) for _, inner in call.depends))


def flattened(result: Any) -> list[Contract]:
    """The events in what a handler returned."""
    if result is None or isinstance(result, Failed):
        return []
    if isinstance(result, _COLLECTIONS):
        return [event for event in result if event is not None]
    return [result]


def _is_concrete(value: Any) -> bool:
    return is_contract(value) and value.__torpor_topic__ is not None and not value.__torpor_is_request__


def _is_request(value: Any) -> bool:
    return is_contract(value) and value.__torpor_topic__ is not None and value.__torpor_is_request__


def _parts(hint: Any) -> Iterator[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType) or (isinstance(origin, type) and issubclass(origin, _COLLECTIONS)):
        for part in typing.get_args(hint):
            yield from _parts(part)
    elif origin is typing.Annotated:
        yield from _parts(typing.get_args(hint)[0])
    else:
        yield hint


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
