"""Limits that all replicas of a service count together, on the shelf that they share."""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

from torpor.kernel.errors import StoreUnavailable
from torpor.kernel.limit import KNOWN_AT_ONCE, Buckets, Drawing
from torpor.ports.shelf import ABSENT

if TYPE_CHECKING:
    from torpor.kernel.limit import Limit
    from torpor.ports.clock import Clock
    from torpor.ports.shelf import Shelf

TRIES = 5  # to count while other replicas count the same
_LINGERS = 10.0  # seconds that a full bucket stays, so that the next request finds its revision
_FORM = struct.Struct(">d")


class SharedBuckets:
    """The buckets of one `Limit`, each one number on the shelf. It is put in place of the revision that was seen last,
    so that a request costs one exchange, and those that come meanwhile are counted together in the next.

    What is known to be empty refuses at once: others can only have taken more. When the shelf is away, or others are
    always faster, the process counts for itself; with `strict` it raises StoreUnavailable.
    """

    def __init__(self, limit: Limit, name: str, *, shelf: Shelf, clock: Clock) -> None:
        self._limit = limit
        self._name = name
        self._shelf = shelf
        self._clock = clock
        self._drawing = Drawing(limit)
        self._own = Buckets(limit)
        self._known: OrderedDict[str, _Bucket] = OrderedDict()

    async def take(self, whose: str) -> float:
        """Takes a token: returns how many are left, or, below 0, the seconds until there is one again."""
        bucket = self._bucket(whose)
        if bucket.revision != ABSENT:
            _, left = self._drawing.draw(bucket.full_at, self._clock.time())
            if left < 0:
                return left
        taken: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        bucket.waiting.append(taken)
        if bucket.task is None:
            bucket.task = asyncio.create_task(self._serve(whose, bucket))
        return await taken

    def _bucket(self, whose: str) -> _Bucket:
        bucket = self._known.get(whose)
        if bucket is None:
            bucket = self._known[whose] = _Bucket(self._key(whose))
            if len(self._known) > KNOWN_AT_ONCE:
                self._known.popitem(last=False)  # one that is being counted is served all the same
        else:
            self._known.move_to_end(whose)
        return bucket

    async def _serve(self, whose: str, bucket: _Bucket) -> None:
        """Counts for all who wait, until nobody does."""
        try:
            while bucket.waiting:
                takers, bucket.waiting = bucket.waiting, []
                try:
                    lefts = await self._count(bucket, len(takers))
                except StoreUnavailable as error:
                    bucket.revision = ABSENT
                    self._count_alone(whose, takers, error)
                else:
                    for taker, left in zip(takers, lefts, strict=True):
                        if not taker.done():
                            taker.set_result(left)
        finally:
            bucket.task = None
            for taker in bucket.waiting:
                taker.cancel()

    def _count_alone(self, whose: str, takers: list[asyncio.Future[float]], error: StoreUnavailable) -> None:
        for taker in takers:
            if taker.done():
                continue
            if self._limit.strict:
                taker.set_exception(StoreUnavailable(str(error)))
            else:
                taker.set_result(self._own.take(whose, self._clock.time()))

    async def _count(self, bucket: _Bucket, many: int) -> list[float]:
        """Takes so many tokens, as far as there are any."""
        for _ in range(TRIES):
            if bucket.revision == ABSENT:
                await self._learn(bucket)
            now = self._clock.time()
            full_at, lefts = bucket.full_at, []
            for _ in range(many):
                full_at, left = self._drawing.draw(full_at, now)
                lefts.append(left)
            if max(lefts) < 0:
                return lefts
            given = await self._shelf.put(
                bucket.key, _FORM.pack(full_at), seconds=full_at - now + _LINGERS, revision=bucket.revision
            )
            if given is not None:
                bucket.full_at, bucket.revision = full_at, given
                return lefts
            bucket.revision = ABSENT
        raise StoreUnavailable(f"Others were faster {TRIES} times to count for {self._limit!r}.")

    async def _learn(self, bucket: _Bucket) -> None:
        """Looks at what others have taken."""
        placed = (await self._shelf.find([bucket.key])).get(bucket.key)
        if placed is None:
            bucket.full_at, bucket.revision = 0.0, ABSENT
        else:
            is_ours = len(placed.value) == _FORM.size
            bucket.full_at = _FORM.unpack(placed.value)[0] if is_ours else 0.0
            bucket.revision = placed.revision

    def _key(self, whose: str) -> str:
        """No header's value is stored: it may be a secret."""
        told = f"{self._name}\0{whose}".encode("utf-8", "surrogatepass")
        return f"limit:{blake2b(told, digest_size=20).hexdigest()}"


class _Bucket:
    __slots__ = ("full_at", "key", "revision", "task", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.full_at = 0.0
        self.revision = ABSENT
        self.waiting: list[asyncio.Future[float]] = []
        self.task: asyncio.Task[None] | None = None
