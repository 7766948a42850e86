"""What a handler of a socket sees of it: the connection in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torpor.kernel.errors import ConfigurationError
from torpor.kernel.frames import NORMAL, frame, is_close_code
from torpor.runtime.sockets import Board, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.runtime.peer import Effects, Peer


class Desk(Board, Protocol):
    """What does to a connection what its handler wants."""

    def write(self, peer: Peer, framed: bytes) -> None:
        """Sends to a peer, unless it is gone."""
        ...

    def join(self, peer: Peer, groups: Sequence[str]) -> None:
        """Makes a peer a member of groups."""
        ...

    def leave(self, peer: Peer, groups: Sequence[str]) -> None:
        """Ends memberships."""
        ...


class Socket:
    """The connection that a handler of a socket has in hand.

    ```python
    @orders.socket("/orders/{order_id}/chat")
    async def talk(message: str, socket: Socket, order_id: str) -> None:
        socket.broadcast(order_id, message)
    ```

    Nothing here waits: what is sent is queued for each client, and a client that does not keep up is closed. In a
    handler with `Tx` all of it happens once the transaction has committed, and not at all if it does not.
    """

    __slots__ = ("_board", "_effects", "_peer")

    def __init__(self, board: Desk, peer: Peer, effects: Effects) -> None:
        self._board = board
        self._peer = peer
        self._effects = effects

    @property
    def id(self) -> str:
        """The connection's name, by which `Sockets.send` finds it from any replica."""
        return self._peer.id

    @property
    def query(self) -> Mapping[str, str]:
        """The query of its URL."""
        return self._peer.query

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""
        return self._peer.subprotocol

    @property
    def close_code(self) -> int | None:
        """Why it was closed, by RFC 6455; None while it is open."""
        return self._peer.close_code

    def send(self, message: Any) -> None:
        """Sends to this client: text, bytes, or anything that pydantic knows as JSON."""
        board, peer, framed = self._board, self._peer, frame(*encoded(message))
        self._effects.do(lambda: board.write(peer, framed))

    def broadcast(self, group: str, message: Any) -> None:
        """Sends to all that have joined a group, in every replica, this one included; at most once."""
        board, told = self._board, encoded(message)
        self._effects.do(lambda: board.broadcast(group, told))

    def join(self, *groups: str) -> None:
        """Makes this connection a member of groups, until it leaves them or is closed."""
        board, peer = self._board, self._peer
        self._effects.do(lambda: board.join(peer, groups))

    def leave(self, *groups: str) -> None:
        """Ends the membership in groups."""
        board, peer = self._board, self._peer
        self._effects.do(lambda: board.leave(peer, groups))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Closes the connection. Codes from 3000 to 4999 are for your own meanings."""
        if not is_close_code(code):
            raise ConfigurationError([f"socket.close({code}): expected 1000, 1001, 1008, 1011, 1013 or 3000 to 4999."])
        peer = self._peer
        self._effects.do(lambda: peer.wire.close(code, reason))

    def __repr__(self) -> str:
        return f"<Socket {self.id}>"
