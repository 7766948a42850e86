"""A peer: one connected client, as small as it can be. A process may have ten thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torpor.kernel.identity import Caller
    from torpor.runtime.plan import SocketBinding

_NOTHING: Mapping[str, str] = {}
HEARD, SILENT, PINGED = 0, 1, 2  # since the last look
GONE: Any = object()  # behind a peer's last message


class Wire(Protocol):
    """A connection's bytes. No method waits or raises."""

    def write(self, frame: bytes) -> None:
        """Sends a frame. A client for which too much waits is closed instead, and a closed one gets nothing."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Says goodbye, and gives the client a moment to do the same."""
        ...

    def abort(self) -> None:
        """Lets go at once."""
        ...

    def pause(self) -> None:
        """Reads no more for now."""
        ...

    def resume(self) -> None:
        """Reads again."""
        ...


class Knock:
    """What a client says that wants to connect. The names of headers are in lower case."""

    __slots__ = ("client", "headers", "path", "query")

    def __init__(self, path: str, query: str, headers: Mapping[str, str], *, client: str = "") -> None:
        self.path = path
        self.query = query
        self.headers = headers
        self.client = client  # its address


class Opening:
    """What a client asks for that wants to connect."""

    __slots__ = ("caller", "parameters", "query", "subprotocol")

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        query: Mapping[str, str] = _NOTHING,
        caller: Caller | None = None,
        subprotocol: str | None = None,
    ) -> None:
        self.parameters = parameters
        self.query = query
        self.caller = caller
        self.subprotocol = subprotocol


class Refused(Exception):  # an answer on its way to the client
    """Why a connection is not accepted, as an HTTP status, and what headers tell of it."""

    def __init__(self, status: int, title: str, headers: Mapping[str, str] = _NOTHING) -> None:
        super().__init__(title)
        self.status = status
        self.headers = headers


class Effects:
    """What a handler does to connections: at once, or, when it has a transaction, once that is committed."""

    __slots__ = ("_held",)

    def __init__(self, *, is_held: bool) -> None:
        self._held: list[Callable[[], None]] | None = [] if is_held else None

    def do(self, effect: Callable[[], None]) -> None:
        """Has something done."""
        if self._held is None:
            effect()
        else:
            self._held.append(effect)

    def release(self) -> None:
        """Does what was held, and what comes from now on at once."""
        held, self._held = self._held, None
        for effect in held or ():
            effect()


class Peer:
    """One connected client."""

    __slots__ = (
        "binding", "close_code", "full_at", "groups", "held", "id", "inbox", "is_leaving", "opening", "state", "wire",
    )  # fmt: skip

    def __init__(self, binding: SocketBinding, wire: Wire, opening: Opening, *, id: str) -> None:
        self.binding = binding
        self.wire = wire
        self.id = id
        self.opening = opening
        self.groups: tuple[str, ...] = ()
        self.inbox: list[Any] | None = None  # while something waits, or is being handled
        self.full_at = 0.0  # when its bucket of messages is full again
        self.state = HEARD
        self.close_code: int | None = None
        self.is_leaving = False  # it is closed once it has no message left to handle
        self.held: Effects | None = None  # until it is accepted

    @property
    def query(self) -> Mapping[str, str]:
        """The query of its URL."""
        return self.opening.query

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""
        return self.opening.subprotocol

    def takes(self, now: float) -> bool:
        """Whether another message is within its rate."""
        limits = self.binding.limits
        after = max(self.full_at, now) + 1 / limits.rate
        if after - now > limits.burst / limits.rate + 1e-6:  # what sums of floats may be off
            return False
        self.full_at = after
        return True
