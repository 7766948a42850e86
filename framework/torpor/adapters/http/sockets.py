"""The door for WebSockets: who may come in, before anything is accepted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from torpor.kernel.errors import ConfigurationError
from torpor.kernel.identity import Denied
from torpor.kernel.socket import ANY, is_own_origin
from torpor.runtime.peer import Opening, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.kernel.auth import Auth
    from torpor.kernel.identity import Caller
    from torpor.runtime.guard import Guard
    from torpor.runtime.host import Host
    from torpor.runtime.peer import Knock, Peer, Wire
    from torpor.runtime.plan import SocketBinding
    from torpor.runtime.switchboard import Switchboard

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_log = logging.getLogger("torpor.auth")


class SocketDoor:
    """Lets clients in to the sockets of some hosts: whoever may not is answered over HTTP, and connected to nothing."""

    def __init__(self, hosts: Sequence[Host], guard_of: Callable[[Auth], Guard] | None) -> None:
        self._places: list[tuple[Switchboard, SocketBinding, Guard | None]] = []
        for host in hosts:
            for binding in host.plan.sockets if host.sockets is not None else ():
                auth = binding.access.auth
                if auth is not None and guard_of is None:
                    raise ConfigurationError([f"{binding!r} has auth=, and nothing here checks it."])
                guard = guard_of(auth) if auth is not None and guard_of is not None else None
                if host.sockets is not None:
                    self._places.append((host.sockets, binding, guard))

    async def let_in(self, knock: Knock, wire: Wire) -> tuple[Switchboard, Peer]:
        """The client as a peer, which has yet to be accepted. Raises Refused."""
        for board, binding, guard in self._places:
            parameters = binding.paths.match(knock.path)
            if parameters is not None:
                _check_origin(binding, knock)
                caller = None if guard is None else await _admitted(guard, binding, knock)
                opening = Opening(
                    parameters,
                    query=dict(parse_qsl(knock.query)) if knock.query else {},
                    caller=caller,
                    subprotocol=_agreed(binding.subprotocols, knock.headers.get("sec-websocket-protocol", "")),
                )
                return board, await board.admit(binding, wire, opening)
        raise Refused(_NOT_FOUND, "No socket is here.")


def _check_origin(binding: SocketBinding, knock: Knock) -> None:
    """A browser sends along what it knows of a user for any page: only pages that are meant may connect."""
    origin = knock.headers.get("origin")
    if origin is None or ANY in binding.origins or origin.lower() in binding.origins:
        return
    if not is_own_origin(origin, knock.headers.get("host", "")):
        _log.warning(
            "%s is refused: its page is of %s", binding.handled.name, origin[:200], extra={"route": knock.path}
        )
        raise Refused(_FORBIDDEN, "Pages of this origin may not connect.")


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
