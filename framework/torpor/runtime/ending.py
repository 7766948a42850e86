"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

_AGAIN_SECONDS = 1.0


def heed_cancelling() -> None:
    """Raises CancelledError if the running task has been cancelled. For who has caught another error than that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended. A driver that is cancelled may meet an error in its cleanup, and raise that
    in the place of the cancelling: its task then takes it for an outage, and goes on."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        done, waiting = await asyncio.wait(waiting, timeout=_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()  # it has been told, or is nobody's any more


async def within(seconds: float, work: Coroutine[Any, Any, None]) -> bool:
    """Waits so long for some work, and ends it then; tells whether it was done. A driver may wait in its cleanup, for
    a server that is gone, much longer than that."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        await ended([task])
    if done:
        task.result()
    return bool(done)
