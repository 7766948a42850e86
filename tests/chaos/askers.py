"""The clients of what is not kept: they have the source ask the sink, once for each number, and note how it ended."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.ledger import Ledger
    from tests.chaos.replica import Replica

_WORKERS = 4
_PAUSE = 0.1
_LONGEST = 40.0  # seconds; the longest freeze is far shorter, and the timeout of a request even more
HUNG, GONE = "hung", "gone"


class Askers:
    """Asks until it is cancelled."""

    def __init__(self, sources: Sequence[Replica], ledger: Ledger, *, seed: int) -> None:
        self._sources = sources
        self._ledger = ledger
        self._seed = seed

    async def ask(self) -> None:
        """Asks, one worker beside the other."""
        async with httpx.AsyncClient(timeout=_LONGEST) as client, asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                group.create_task(self._work(client, f"a{number}", Random(f"{self._seed} asker {number}")))

    async def _work(self, client: httpx.AsyncClient, key: str, chance: Random) -> None:
        number = 0
        while True:
            await asyncio.sleep(_PAUSE * chance.random())
            number += 1
            port = chance.choice(self._sources).port
            self._ledger.asked[key, number] = GONE  # until it has another end
            self._ledger.asked[key, number] = await _asked(client, f"http://127.0.0.1:{port}/ask/{key}/{number}")


async def _asked(client: httpx.AsyncClient, url: str) -> str:
    try:
        answer = await client.post(url)
    except httpx.TimeoutException:
        return HUNG
    except httpx.TransportError:
        return GONE  # with the process that asked
    return str(answer.json()) if answer.is_success else GONE  # a process that starts, or was stopped meanwhile
