"""The answers that are kept for a while, on the shelf that the replicas share."""

from __future__ import annotations

import json
from binascii import hexlify
from os import urandom
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import Rejected
from torpor.ports.shelf import ABSENT, LARGEST
from torpor.runtime.sharing import TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.ports.clock import Clock
    from torpor.ports.shelf import Shelf

    Headers = Sequence[tuple[bytes, bytes]]

ANSWER = "answer:"  # begins the keys of answers
MOST_BYTES = LARGEST - 32_768  # of a body, beside which its headers find room
_FORMAT = 1
_AHEAD = 60.0  # seconds that the clock of another machine may be
_TAG_SECONDS = 86_400.0  # after which a tag is made anew, and its answers with it


class Kept:
    """An answer as it was given, when it was made, until when it may be given again, and under which tokens."""

    __slots__ = ("at", "body", "headers", "status", "tokens", "until")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        *,
        at: float,
        until: float,
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.at = at
        self.until = until
        self.tokens = tokens or {}

    def encode(self) -> bytes:
        """As it is put on the shelf."""
        headers = [(str(name, "latin-1"), str(value, "latin-1")) for name, value in self.headers]
        told = [_FORMAT, self.status, headers, self.at, self.until, dict(self.tokens)]
        return json.dumps(told).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, data: bytes) -> Kept | None:
        """What lies on the shelf; None when another version has put it there, or somebody else."""
        head, _, body = data.partition(b"\n")
        try:
            told = json.loads(head)
        except ValueError:
            return None
        if not isinstance(told, list) or told[:1] != [_FORMAT]:
            return None
        _, status, headers, at, until, tokens = told
        read = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return cls(status, read, body, at=at, until=until, tokens=tokens)


class Cache:
    """Finds and keeps answers by key. One with tags is kept under the tokens that its tags had before it was made: a
    tag that was forgotten has another when it is asked for again, so that no answer from before is found any more."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    async def find(self, key: str, tags: Sequence[str]) -> tuple[Kept | None, Mapping[str, str]]:
        """The answer under a key, if it may be given; and the tokens of the tags that have any. Raises
        StoreUnavailable."""
        found = await self._shelf.find([ANSWER + key, *(TAG + tag for tag in tags)])
        tokens = {tag: str(found[TAG + tag].value, "ascii") for tag in tags if TAG + tag in found}
        placed = found.get(ANSWER + key)
        kept = None if placed is None else Kept.decode(placed.value)
        if kept is not None and self._holds(kept, tags, tokens):
            return kept, tokens
        return None, tokens

    async def holds(self, kept: Kept, tags: Sequence[str]) -> bool:
        """Whether an answer that was just made may be given still. Raises StoreUnavailable."""
        if not tags:
            return self._holds(kept, (), {})
        found = await self._shelf.find([TAG + tag for tag in tags])
        return self._holds(kept, tags, {key.removeprefix(TAG): str(p.value, "ascii") for key, p in found.items()})

    async def begin(self, tags: Sequence[str], known: Mapping[str, str], *, seconds: float) -> dict[str, str] | None:
        """The tokens of all tags, before an answer is made; None when one of them is forgotten at this moment. Raises
        StoreUnavailable."""
        tokens = dict(known)
        for tag in tags:
            if tag not in tokens:
                token = await self._token(tag, max(_TAG_SECONDS, seconds))
                if token is None:
                    return None
                tokens[tag] = token
        return tokens

    async def keep(self, key: str, kept: Kept) -> None:
        """Keeps an answer, if there is room. Raises StoreUnavailable."""
        seconds = kept.until - self._clock.time()
        if seconds > 0:
            try:
                await self._shelf.put(ANSWER + key, kept.encode(), seconds=seconds)
            except Rejected:
                return  # over what the backend takes: it is made each time

    def _holds(self, kept: Kept, tags: Sequence[str], tokens: Mapping[str, str]) -> bool:
        return (
            kept.at <= self._clock.time() + _AHEAD
            and self._clock.time() < kept.until
            and all(tag in tokens and kept.tokens.get(tag) == tokens[tag] for tag in tags)
        )

    async def _token(self, tag: str, seconds: float) -> str | None:
        """The token of a tag that had none: a new one, or that which another has made meanwhile."""
        token: Any = hexlify(urandom(12))
        if await self._shelf.put(TAG + tag, token, seconds=seconds, revision=ABSENT) is None:
            placed = (await self._shelf.find([TAG + tag])).get(TAG + tag)
            token = None if placed is None else placed.value
        return None if token is None else str(token, "ascii")
