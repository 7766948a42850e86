"""Sockets, checked and ready to run."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError

from torpor.contract.answer import AnswerCodec
from torpor.kernel.cors import Cors
from torpor.kernel.errors import DecodeError, did_you_mean
from torpor.kernel.limit import BodyLimit, Limit
from torpor.kernel.socket import MESSAGE_SIZE, SocketLimits
from torpor.runtime.connection import Socket
from torpor.runtime.options import SocketOptions
from torpor.runtime.paths import IN_PATH, Paths
from torpor.runtime.plan import SocketBinding, SocketHandler
from torpor.runtime.rules import KINDS, Rules
from torpor.runtime.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.runtime.plan import Access, Handled

    Read = Callable[[str | bytes], Any]

_SENSIBLE = (Limit, BodyLimit, Timeout, Cors)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def socket_binding(
    path: str, options: SocketOptions, handled: Sequence[Handled | None], *, access: Access
) -> tuple[SocketBinding | None, list[str]]:
    """A socket, and what is wrong with it, as ends of sentences about its handler."""
    problems = _problems(path, options)
    names = [found[1] for found in IN_PATH.finditer(path)]
    hints: dict[str, Any] = {}
    sorted_out = [_sorted_out(one, names, hints) if one is not None else None for one in handled]
    for found in sorted_out[1:]:
        if found is not None and found[1]:
            told = ", ".join(f"'{parameter.name}'" for parameter in found[1])
            problems.append(f"has {found[0].handled.name}, which asks for {told}; that comes with messages alone.")
    message, rest = sorted_out[0] if sorted_out[0] is not None else (None, [])
    for name in names:
        if name not in hints:
            hint = did_you_mean(name, [parameter.name for parameter in rest])
            problems.append(f"has {{{name}}} in its path, and no parameter of that name.{hint}")
    if len(rest) != 1:
        told = ", ".join(f"'{parameter.name}'" for parameter in rest) or "none"
        problems.append(
            f"takes one message and what Torpor fills, and has these parameters for it: {told}. "
            "Give it one, such as message: Say."
        )
    if problems or message is None:
        return None, problems
    around = [None if found is None else found[0] for found in sorted_out]
    (parameter,) = rest
    binding = SocketBinding(
        around, path, parameter=parameter.name, read=_reader(parameter.annotation), paths=Paths(path, hints),
        access=access, options={**options, "limits": options.get("limits") or SocketLimits()},
    )  # fmt: skip
    _rule(binding, own=Rules(options.get("rules", ())))
    return binding, []


def _rule(binding: SocketBinding, *, own: Rules) -> None:
    """Has the rules hold. From above comes only what is stricter: what a service lets be uploaded is not what each of
    many connections may send, and to a socket every page's browser sends its cookies."""
    rules = binding.access.rules or Rules()
    largest, cors, timeout = rules.of(BodyLimit), rules.of(Cors), rules.of(Timeout)
    if own.of(BodyLimit) is not None and largest is not None:
        binding.message_size = largest.size
    else:
        binding.message_size = MESSAGE_SIZE if largest is None else min(MESSAGE_SIZE, largest.size)
    if cors is not None and (own.of(Cors) is not None or cors.credentials):
        binding.origins = frozenset(origin.lower() for origin in cors.origins)
    if timeout is not None:
        binding.seconds = timeout.seconds


def _sorted_out(
    handled: Handled, names: Sequence[str], hints: dict[str, Any]
) -> tuple[SocketHandler, list[inspect.Parameter]]:
    """A handler, and those of its parameters that are neither in the path nor the connection."""
    foreign = handled.call.foreign
    socket = next((parameter.name for parameter in foreign if parameter.annotation is Socket), None)
    in_path = {parameter.name: parameter.annotation for parameter in foreign if parameter.name in names}
    for name, hint in in_path.items():
        hints.setdefault(name, str if hint is inspect.Parameter.empty else hint)
    rest = [parameter for parameter in foreign if parameter.name not in in_path and parameter.name != socket]
    return SocketHandler(handled, names=[*in_path], socket=socket), rest


def _problems(path: str, options: SocketOptions) -> list[str]:
    problems = []
    if not path.startswith("/"):
        problems.append(f"has the path {path!r}. A path starts with '/'.")
    if path.startswith("/-/"):
        problems.append(f"has the path {path!r}. Paths under /-/ are Torpor's own; choose another.")
    known = SocketOptions.__annotations__
    unknown = options.keys() - known.keys()
    problems += [f"has an unknown option {name!r}.{did_you_mean(name, known)}" for name in unknown]
    limits: object = options.get("limits")
    if limits is not None and not isinstance(limits, SocketLimits):
        problems.append(f"has limits={limits!r}. Give a value: limits=SocketLimits(...).")
    for name in ("connect", "disconnect"):
        function: Any = options.get(name)
        if function is not None and not inspect.iscoroutinefunction(function):
            problems.append(f"has {name}={function!r}, which is no coroutine. Declare it with `async def`.")
    problems += _misplaced(options)
    for name in options.get("subprotocols", ()):
        if not _TOKEN.fullmatch(name):
            problems.append(f"has the subprotocol {name!r}. Expected letters, digits and .-_.")
    return problems


def _misplaced(options: SocketOptions) -> list[str]:
    """Rules that mean nothing here, and types that cannot be sent."""
    problems = []
    for rule in options.get("rules", ()):
        if isinstance(rule, KINDS) and not isinstance(rule, _SENSIBLE):
            sensible = ", ".join(kind.__name__ for kind in _SENSIBLE)
            problems.append(
                f"has {rule!r} among its rules=, which is for requests. Drop it; a socket takes {sensible}."
            )
    for hint in options.get("sends", ()):
        try:
            AnswerCodec(hint)
        except PydanticUserError:
            problems.append(f"has {hint!r} among its sends=. Expected types that pydantic knows, such as [Line, Left].")
    return problems


def _reader(hint: Any) -> Read:
    """What makes messages of a type: of text or bytes as they are, or of JSON."""
    if hint is str:
        return lambda payload: _of_kind(payload, str)
    if hint is bytes:
        return lambda payload: _of_kind(payload, bytes)
    codec = AnswerCodec(hint)
    return lambda payload: codec.decode(payload.encode() if isinstance(payload, str) else payload)


def _of_kind(payload: str | bytes, kind: type[Any]) -> Any:
    if not isinstance(payload, kind):
        expected, got = ("text", "bytes") if kind is str else ("bytes", "text")
        raise DecodeError(f"expected {expected}, got {got}")
    return payload
