"""What a handler of an event, a route or a schedule sees of WebSockets: all of them."""

from __future__ import annotations

from typing import Any, Protocol


class Board(Protocol):
    """What passes on what clients are sent: a kind of message and its bytes."""

    def broadcast(self, group: str, told: tuple[int, bytes]) -> None:
        """Sends to the members of a group, here and in the other replicas."""
        ...

    def send_to(self, connection: str, told: tuple[int, bytes]) -> None:
        """Sends to a connection, here or elsewhere."""
        ...


class Sockets:
    """All connections of a service, for its handlers of events, routes and schedules.

    ```python
    @orders.socket("/orders/{order_id}/watch")
    async def watch(message: str, socket: Socket, order_id: str) -> None:
        socket.join(order_id)


    @orders.on(OrderPaid)
    async def tell(event: OrderPaid, sockets: Sockets) -> None:
        sockets.broadcast(event.order_id, event)
    ```

    They are reached in every replica over the broker, at most once, by who is connected at that moment.
    """

    __slots__ = ("_board",)

    def __init__(self, board: Board) -> None:
        self._board = board

    def broadcast(self, group: str, message: Any) -> None:
        """Sends to all that have joined a group."""
        self._board.broadcast(group, encoded(message))

    def send(self, id: str, message: Any) -> None:  # it is the connection's
        """Sends to one connection, wherever it is; nobody is told when it is gone."""
        self._board.send_to(id, encoded(message))


def encoded(message: Any) -> tuple[int, bytes]:
    """A message to clients, as its kind and its bytes. Raises what its serializer does."""
    from torpor.contract.answer import told_as
    from torpor.kernel.frames import BINARY, TEXT

    told, is_text = told_as(message)
    return (TEXT if is_text else BINARY), told
