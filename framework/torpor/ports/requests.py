"""The port of requests with a key: answered once, in the unit of their effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Answer:
    """What a request was answered with, and the fingerprint of the request that it answered."""

    __slots__ = ("body", "fingerprint", "headers", "status")

    def __init__(self, fingerprint: str, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self.fingerprint = fingerprint
        self.status = status
        self.headers = tuple(headers)
        self.body = body


class Turn:
    """What a unit finds when it asks for a key: an answer from before, another unit that has it, or neither."""

    __slots__ = ("answer", "is_taken")

    def __init__(self, answer: Answer | None = None, *, is_taken: bool = False) -> None:
        self.answer = answer
        self.is_taken = is_taken


class Requests(Protocol):
    """The requests of one unit. A place is a route, or a route and a caller; each has keys of its own."""

    async def take(self, place: str, key: str, now: float) -> Turn:
        """Takes the key until the unit ends, unless another unit has it. Never waits for one of the same key, but on a
        store with one writer for one in another process. An answer whose time is over is none."""
        ...

    async def keep(self, place: str, key: str, answer: Answer, *, until: float) -> None:
        """Keeps the answer for a key that was taken; it is there once the unit has committed. Raises StatementFailed
        when there is one already."""
        ...


class Answers(Protocol):
    """The answers that were kept, beside the units."""

    async def forget(self, before: float) -> None:
        """Removes the answers whose time was over before a moment."""
        ...
