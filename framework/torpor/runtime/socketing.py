"""Sockets, checked and ready to run."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from torpor.contract.answer import AnswerCodec
from torpor.kernel.errors import DecodeError, did_you_mean
from torpor.kernel.socket import ANY, SocketLimits
from torpor.runtime.connection import Socket
from torpor.runtime.paths import IN_PATH, Paths
from torpor.runtime.plan import SocketBinding, SocketHandler
from torpor.runtime.router import SocketOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.runtime.plan import Access, Handled

    Read = Callable[[str | bytes], Any]

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
    return SocketBinding(
        around, path, parameter=parameter.name, read=_reader(parameter.annotation), paths=Paths(path, hints),
        access=access, options={**options, "limits": options.get("limits") or SocketLimits()},
    ), []  # fmt: skip


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
    for origin in options.get("origins", ()):
        if origin != ANY and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/]+/?", origin.lower()):
            problems.append(f"has the origin {origin!r}. Expected such as https://shop.example.com, or '*' for all.")
    for name in options.get("subprotocols", ()):
        if not _TOKEN.fullmatch(name):
            problems.append(f"has the subprotocol {name!r}. Expected letters, digits and .-_.")
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
