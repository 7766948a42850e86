"""The real clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Wall time and the event loop's timers. Keeps no state; one may serve the whole process."""

    __slots__ = ()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    def __repr__(self) -> str:
        return "<SystemClock>"
