"""A client of a WebSocket, for a test: no server, no bytes, and the same door, handlers and groups."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from torpor.kernel.errors import NotRunning
from torpor.kernel.frames import ABNORMAL, NORMAL, PING, TEXT, TOO_BIG

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from torpor.runtime.peer import Knock, Peer, Wire
    from torpor.runtime.switchboard import Switchboard

    LetIn = Callable[[Knock, Wire], Awaitable[tuple[Switchboard, Peer]]]

_WIDTHS = {126: 2, 127: 8}  # of a frame's longer length


class TestSocket:
    """A connection that a test has made with `TestShop.connect`.

    ```python
    @orders.socket("/echo")
    async def echo(message: str) -> str:
        return message


    async def test_what_is_said_comes_back() -> None:
        async with TestShop(orders) as shop, shop.connect("/echo") as client:
            await client.send("hello")
            assert client.received == ["hello"]
    ```

    `received` is all that has come, JSON as what it means, and `close_code` tells why the service has closed it. Who is
    not let in raises `torpor.runtime.peer.Refused`, with its `status`.
    """

    __test__ = False  # pytest is not to collect it

    def __init__(self, let_in: LetIn, knock: Knock, settle: Callable[[], Awaitable[None]]) -> None:
        self.received: list[Any] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.is_deaf = False  # as a client that is gone without a word: it takes nothing, and answers no ping
        self._let_in = let_in
        self._knock = knock
        self._settle = settle
        self._board: Switchboard | None = None
        self._peer: Peer | None = None

    async def __aenter__(self) -> Self:
        self._board, self._peer = await self._let_in(self._knock, self)
        self._board.accepted(self._peer)
        await self._settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(NORMAL)
        if error is None:
            await self._settle()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""
        return None if self._peer is None else self._peer.subprotocol

    async def send(self, message: Any) -> None:
        """Sends text or bytes as they are, all else as JSON, and waits until nothing is in flight."""
        if self._board is None or self._peer is None or self.close_code is not None:
            raise NotRunning("This connection is not open. Use it as `async with shop.connect(...) as socket:`.")
        limit = self._peer.binding.message_size
        sent = message if isinstance(message, str | bytes) else json.dumps(message)
        if len(sent.encode() if isinstance(sent, str) else sent) > limit:
            self.close(TOO_BIG, f"a message of more than {limit} bytes")
        else:
            self._board.received(self._peer, sent)
        await self._settle()

    def write(self, frame: bytes) -> None:
        """Takes a frame, as a client does; a ping is answered at once."""
        if self.is_deaf or self.close_code is not None or self._board is None or self._peer is None:
            return
        opcode, length = frame[0] & 0x0F, frame[1]
        payload = frame[2 + _WIDTHS.get(length, 0) :]
        if opcode == PING:
            self._board.heard(self._peer)
        elif opcode == TEXT:
            self.received.append(_meant(payload.decode()))
        else:
            self.received.append(payload)

    def close(self, code: int, reason: str) -> None:
        """Is closed by the service."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._leave(code)

    def abort(self) -> None:
        """Is let go of."""
        self.close(ABNORMAL, "")

    def pause(self) -> None:
        """What is sent now waits with the service."""

    def resume(self) -> None:
        """Nothing waits any more."""

    def _leave(self, code: int) -> None:
        if self._board is not None and self._peer is not None:
            self._board.left(self._peer, code)


def _meant(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
