"""The door for WebSockets: who may come in, before anything is accepted."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from torpor.adapters.http.counting import UNCOUNTED, network_of, policy_of, text_of
from torpor.kernel.cors import ANY
from torpor.kernel.errors import ConfigurationError, StoreUnavailable
from torpor.kernel.identity import Denied
from torpor.kernel.limit import CALLER, CLIENT
from torpor.kernel.socket import is_own_origin
from torpor.runtime.peer import Opening, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.adapters.http.counting import Counting
    from torpor.kernel.auth import Auth
    from torpor.kernel.identity import Caller
    from torpor.kernel.limit import Limit
    from torpor.runtime.guard import Guard
    from torpor.runtime.host import Host
    from torpor.runtime.peer import Knock, Peer, Wire
    from torpor.runtime.plan import SocketBinding
    from torpor.runtime.switchboard import Switchboard

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 401, 403, 404, 429, 503
_log = logging.getLogger("torpor.auth")


class SocketDoor:
    """Lets clients in to the sockets of some hosts: whoever may not is answered over HTTP, and connected to nothing."""

    def __init__(self, hosts: Sequence[Host], guard_of: Callable[[Auth], Guard] | None, counting: Counting) -> None:
        self._counting = counting
        self._places: list[tuple[Host, SocketBinding, Guard | None]] = []
        for host in hosts:
            for binding in host.plan.sockets if host.sockets is not None else ():
                auth = binding.access.auth
                if auth is not None and guard_of is None:
                    raise ConfigurationError([f"{binding!r} has auth=, and nothing here checks it."])
                guard = guard_of(auth) if auth is not None and guard_of is not None else None
                self._places.append((host, binding, guard))

    async def let_in(self, knock: Knock, wire: Wire) -> tuple[Switchboard, Peer]:
        """The client as a peer, which has yet to be accepted. Raises Refused."""
        for host, binding, guard in self._places:
            parameters = binding.paths.match(knock.path)
            if parameters is not None and (board := host.sockets) is not None:
                _check_origin(binding, knock)
                await self._check_limits(host, binding, knock, None)
                caller = None if guard is None else await _admitted(guard, binding, knock)
                if caller is not None:
                    await self._check_limits(host, binding, knock, caller)
                opening = Opening(
                    parameters,
                    query=dict(parse_qsl(knock.query)) if knock.query else {},
                    caller=caller,
                    subprotocol=_agreed(binding.subprotocols, knock.headers.get("sec-websocket-protocol", "")),
                )
                return board, await board.admit(binding, wire, opening)
        raise Refused(_NOT_FOUND, "No socket is here.")

    async def _check_limits(self, host: Host, binding: SocketBinding, knock: Knock, caller: Caller | None) -> None:
        """Counts who connects as who asks: a socket and the routes beside it share the limits above them."""
        rules = binding.access.rules
        for limit in () if rules is None else rules.limits:  # the widest is asked first
            if (limit.by == CALLER) is (caller is None):
                continue  # callers are counted once they are known
            try:
                left = await self._counting.take(host, limit, _counted(limit, knock, caller))
            except StoreUnavailable as error:
                raise Refused(_UNAVAILABLE, UNCOUNTED, {"retry-after": "1"}) from error
            if left < 0:
                host.metrics.limit(binding.handled.name)
                wait = math.ceil(-left)
                told = f"Connected too often: {limit.rate} times in {limit.per:g} s are allowed. Wait {wait} s."
                shown = {"ratelimit-policy": policy_of(limit), "ratelimit": f'"{limit.by}";r=0;t={wait}'}
                raise Refused(_TOO_MANY, told, {**shown, "retry-after": str(wait)})


def _check_origin(binding: SocketBinding, knock: Knock) -> None:
    """A browser sends along what it knows of a user for any page: only pages that are meant may connect."""
    origin = knock.headers.get("origin")
    if origin is None or ANY in binding.origins or origin.lower() in binding.origins:
        return
    if not is_own_origin(origin, knock.headers.get("host", "")):
        _log.warning(
            "%s is refused: its page is of %r, which no Cors(...) of this socket names",
            binding.handled.name, origin[:200], extra={"route": knock.path},
        )  # fmt: skip
        raise Refused(_FORBIDDEN, "Pages of this origin may not connect.")


def _counted(limit: Limit, knock: Knock, caller: Caller | None) -> str:
    if limit.by == CLIENT:
        return network_of(knock.client)
    if caller is not None:
        return text_of(caller)
    return knock.headers.get(limit.header or "", "")


async def _admitted(guard: Guard, binding: SocketBinding, knock: Knock) -> Caller:
    try:
        return await guard.admit(knock.headers)
    except Denied as denied:
        _log.warning("%s is refused: %s", binding.handled.name, denied, extra={"route": knock.path})
        if denied.is_known:
            raise Refused(_FORBIDDEN, "This caller may not do this.") from denied
        raise Refused(_UNAUTHORIZED, "Who calls is not known here.") from denied


def _agreed(spoken: Sequence[str], offered: str) -> str | None:
    names = {name.strip() for name in offered.split(",")}
    return next((name for name in spoken if name in names), None)
