"""The operator: removes the cause of some failures now and then, and redrives with the command line."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.ledger import Ledger
    from tests.chaos.stage import Stage
    from tests.chaos.witness import Witness

_EVERY = 9.0
_SHARE = 0.5
_PARKED = "SELECT number, key FROM tail.torpor_parked WHERE due_at IS NULL ORDER BY number"
_MEND = "INSERT INTO tail.mended (key, at) SELECT one, $2 FROM unnest($1::text[]) AS one ON CONFLICT DO NOTHING"


class Mender:
    """Redrives half of what is parked every few seconds, and all of it at the end."""

    def __init__(self, stage: Stage, ledger: Ledger, witness: Witness, *, seed: int) -> None:
        self._stage = stage
        self._ledger = ledger
        self._witness = witness
        self._chance = Random(f"{seed} mender")

    async def work(self) -> None:
        """Mends some of it, again and again, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            rows = await self._witness.patiently(_PARKED)
            chosen = [row for row in rows if self._chance.random() < _SHARE]
            if chosen:
                await self._mend([row["key"] for row in chosen])
                await self._redrive(*(f"tail:{row['number']}" for row in chosen))

    async def mend_all(self) -> None:
        """Removes every cause of failure, also of the transient ones."""
        await self._mend(["*"])

    async def redrive_all(self) -> None:
        """Redrives all that is parked."""
        await self._redrive("--all")

    async def _mend(self, keys: list[str]) -> None:
        now = time.time()
        await self._witness.patiently(_MEND, keys, now)
        for key in keys:
            self._ledger.mended.setdefault(key, now)

    async def _redrive(self, *words: str) -> None:
        code, told = await self._stage.command("parked", "redrive", "--service", "tail", "--yes", *words)
        self._ledger.redrives += code == 0
        if code:  # a number may have gone meanwhile, or the database
            self._ledger.notes.append(f"redrive: {told.strip().splitlines()[-1] if told.strip() else code}")
