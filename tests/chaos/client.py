"""The clients: they place numbers in order for each key, and ask again until they know that a request was accepted."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.ledger import Ledger
    from tests.chaos.replica import Replica

_WORKERS = 12
_TIMEOUT = 4.0
_PAUSE = 0.05
_MOST_AT_ONCE = 5
_REGRETS = 0.02  # of the requests
_KEYED = 0.4  # of them, by an Idempotency-Key


class Clients:
    """Places so many messages at so many a second. The numbers of a key follow each other: each waits for the last."""

    def __init__(self, sources: Sequence[Replica], ledger: Ledger, *, seed: int, keys: int) -> None:
        self._sources = sources
        self._ledger = ledger
        self._seed = seed
        self._keys = [f"k{number:04}" for number in range(keys)]
        self._placed = 0
        self._started = 0.0

    async def place(self, messages: int, rate: float) -> None:
        """Places them; returns once all are accepted."""
        self._started = time.monotonic()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * _WORKERS)
        async with httpx.AsyncClient(timeout=_TIMEOUT, limits=limits) as client, asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                worker = _Worker(client, self._sources, self._ledger, Random(f"{self._seed} {number}"))
                group.create_task(self._work(worker, self._keys[number::_WORKERS], messages, rate))

    async def _work(self, worker: _Worker, keys: list[str], messages: int, rate: float) -> None:
        while self._placed < messages:
            if self._placed > (time.monotonic() - self._started) * rate:
                await asyncio.sleep(_PAUSE / 5)
                continue
            count = min(worker.chance.randint(1, _MOST_AT_ONCE), messages - self._placed)
            self._placed += count
            await worker.place(worker.chance.choice(keys), count)


class _Worker:
    def __init__(self, client: httpx.AsyncClient, sources: Sequence[Replica], ledger: Ledger, chance: Random) -> None:
        self.chance = chance
        self._client = client
        self._sources = sources
        self._ledger = ledger
        self._regrets = 0

    async def place(self, key: str, count: int) -> None:
        """Places the next numbers of a key, however often it must ask."""
        if self.chance.random() < _REGRETS:
            await self._regret(key, count)
        first = self._ledger.accepted.get(key, 0) + 1
        path = "keyed" if self.chance.random() < _KEYED else "numbers"
        while not await self._ask({"key": key, "first": first, "count": count}, path):
            self._ledger.retried += 1
            await asyncio.sleep(_PAUSE)
        self._ledger.accepted[key] = first + count - 1

    async def _regret(self, key: str, count: int) -> None:
        """Asks for numbers below 0, which the handler takes back."""
        first = -1_000_000 + self._regrets * _MOST_AT_ONCE
        self._regrets += 1
        self._ledger.regretted |= {(key, number) for number in range(first, first + count)}
        await self._ask({"key": key, "first": first, "count": count, "is_regretted": True})

    async def _ask(self, numbers: dict[str, object], path: str = "numbers") -> bool:
        port = self.chance.choice(self._sources).port
        headers = {"Idempotency-Key": f"{numbers['key']}/{numbers['first']}"} if path == "keyed" else {}
        try:
            answer = await self._client.post(f"http://127.0.0.1:{port}/{path}", json=numbers, headers=headers)
        except httpx.TransportError:
            return False
        self._ledger.replayed += "Idempotency-Replayed" in answer.headers
        return answer.status_code == httpx.codes.ACCEPTED
