"""What the replicas of a service share, as long as it can be reached."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from torpor.kernel.errors import (
    BrokerUnavailable,
    ConfigurationError,
    NotRunning,
    StatementFailed,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from torpor.ports.shelf import Placed, Shelf
    from torpor.runtime.context import Context

T = TypeVar("T")

TAG = "tag:"  # begins the keys of tags
_WARM = "warm"  # a key of nothing
_PATIENCE = 1.0  # seconds that a request waits for it
_PAUSE = 1.0  # seconds in which it is not asked after it did not answer
_PART = "what the replicas share"
_MOST_WAITING, _AT_ONCE = 100_000, 500  # tags that are to be forgotten, and that are told together
_AWAY = (BrokerUnavailable, StoreUnavailable, NotRunning, StatementFailed, ConfigurationError, TimeoutError)


class SteadyShelf:
    """A shelf that nobody waits for long. While it is away it is asked once a second; that is told once.

    Whatever is wrong with it is raised as StoreUnavailable: who asks goes on without it.
    """

    def __init__(self, shelf: Shelf, context: Context) -> None:
        self.promises = shelf.promises
        self._shelf = shelf
        self._context = context
        self._asks_again_at = 0.0
        self.leaving: dict[str, int] = {}  # keys that are to be removed, and are as good as gone; each with a number

    async def warm(self) -> None:
        """Has what it needs loaded and opened before the first request, however long that takes."""
        with contextlib.suppress(*_AWAY):
            await self._shelf.find([_WARM])

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        found = await self._asked(lambda: self._shelf.find(keys))
        if self.leaving:
            return {key: placed for key, placed in found.items() if key not in self.leaving}
        return found

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        return await self._asked(lambda: self._shelf.put(key, value, seconds=seconds, revision=revision))

    async def remove(self, keys: Sequence[str]) -> None:
        await self._asked(lambda: self._shelf.remove(keys))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        context = self._context
        if 0 < self._asks_again_at - context.clock.time() <= _PAUSE:
            raise StoreUnavailable("What the replicas share did not answer a moment ago.")
        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await ask()
        except _AWAY as error:
            self._asks_again_at = context.clock.time() + _PAUSE
            context.metrics.shared_failed += 1
            reason = f"no answer within {_PATIENCE:g} s" if isinstance(error, TimeoutError) else str(error)
            context.health.note(_PART, reason)
            raise StoreUnavailable(f"What the replicas share is away: {reason}") from error
        if self._asks_again_at:
            self._asks_again_at = 0.0
            context.health.note(_PART, None)
        return answer

    def __repr__(self) -> str:
        return f"<SteadyShelf of {self._shelf!r}>"


class Forgetting:
    """Has the answers of tags given to nobody any more. A tag lies on the shelf as long as its answers hold: without
    it none does, so that to forget is to remove it."""

    def __init__(self, shelf: SteadyShelf, context: Context) -> None:
        self._shelf = shelf
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._puts = 0
        self._tried_until = 0
        self._round = asyncio.Event()
        self._is_failing = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be forgotten that can be."""
        return self._task is None or self._is_failing

    def put(self, tags: Collection[str]) -> None:
        """Has tags forgotten: at once, or as soon as the shelf answers. Must not wait."""
        self._puts += 1
        leaving = self._shelf.leaving
        for tag in tags:
            if len(leaving) < _MOST_WAITING or TAG + tag in leaving:
                leaving[TAG + tag] = self._puts
        if self._task is None:
            self._task = self._context.health.watch("forgetting", self._run())

    async def tried(self) -> None:
        """Returns once all that was put is forgotten, or the shelf is known to be away."""
        puts = self._puts
        while self._task is not None and not self._is_failing and self._tried_until < puts:
            await self._round.wait()

    def abandon(self) -> None:
        """Leaves what waits to its time to live."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._shelf.leaving:
                puts = self._puts
                try:
                    await self._remove(dict(self._shelf.leaving))
                except StoreUnavailable:
                    self._is_failing = True
                    self._end_round(puts)
                    await self._context.clock.sleep(_PAUSE)
                else:
                    self._is_failing = False
                    self._end_round(puts)
        finally:
            self._task = None
            self._is_failing = False
            self._end_round(self._puts)

    async def _remove(self, numbers: dict[str, int]) -> None:
        """Removes keys. One that was put again meanwhile stays to be removed: it may have been made anew since."""
        keys, leaving = [*numbers], self._shelf.leaving
        for start in range(0, len(keys), _AT_ONCE):
            batch = keys[start : start + _AT_ONCE]
            await self._shelf.remove(batch)
            for key in batch:
                if leaving[key] == numbers[key]:
                    del leaving[key]

    def _end_round(self, puts: int) -> None:
        self._tried_until = puts
        self._round.set()
        self._round = asyncio.Event()
