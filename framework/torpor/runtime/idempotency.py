"""Requests with a key: each is answered once, in the unit of its effects, and then as it was the first time."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.idempotent import Idempotent
    from torpor.ports.requests import Answer, Requests


class Answered(Exception):  # what a request is told instead of being handled, not an error
    """The key was answered before."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class UnderWay(Exception):  # as above
    """Another request with the key is being handled."""


class Reused(Exception):  # as above
    """The key was used for another request."""


class KeyedRequest:
    """A request with a key, from the look at what was answered to the keeping of its own answer."""

    __slots__ = ("_caller", "_policy", "answer", "fingerprint", "key")

    def __init__(self, key: str, fingerprint: str, policy: Idempotent, *, caller: str | None = None) -> None:
        self.key = key
        self.fingerprint = fingerprint
        self.answer: Answer | None = None  # set by whoever answers, before the unit's end
        self._policy = policy
        self._caller = caller  # each has keys of its own

    @property
    def origin(self) -> str:
        """What step keys are made of."""
        return self.key if self._caller is None else f"{self._caller}\n{self.key}"

    async def begin(self, requests: Requests, route: str, now: float) -> None:
        """Takes the key, in the unit that will handle the request. Raises Answered, UnderWay or Reused."""
        turn = await requests.take(self._place(route), self.key, now)
        if turn.is_taken:
            raise UnderWay
        if turn.answer is not None:
            raise Answered(turn.answer) if turn.answer.fingerprint == self.fingerprint else Reused

    async def end(self, requests: Requests, route: str, now: float) -> None:
        """Keeps the answer, in the same unit."""
        if self.answer is not None:
            await requests.keep(self._place(route), self.key, self.answer, until=now + self._policy.keep)

    def _place(self, route: str) -> str:
        return route if self._caller is None else f"{route}\n{self._caller}"


def fingerprint_of(parts: Sequence[bytes]) -> str:
    """A digest of what a request asks for. Each part counts with its length, so that none runs into the next."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
