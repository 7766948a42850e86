"""A limit to how long a call may take."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torpor.kernel.errors import ConfigurationError, TimedOut

if TYPE_CHECKING:
    from types import TracebackType

    from torpor.ports.clock import Clock

E = TypeVar("E")


class Timeout:
    """A limit to how long a call may take: what is not done in time is cancelled, and `TimedOut` is raised.

    ```python
    async with Timeout(2.0):
        ...  # the call
    ```

    One value may guard many calls at once, each with the full time. `clock` is for tests; without it the event
    loop's timers count.
    """

    __slots__ = ("_entered", "clock", "seconds")

    def __init__(self, seconds: float, *, clock: Clock | None = None) -> None:
        if not (math.isfinite(seconds) and seconds > 0):
            raise ConfigurationError([f"Timeout({seconds}) lets no call end. Give a positive number of seconds."])
        self.seconds = seconds
        self.clock = clock
        self._entered: Entered[Deadline] = Entered()

    async def __aenter__(self) -> None:
        deadline = Deadline(self.seconds, clock=self.clock, what="A call")
        await deadline.begin()
        self._entered.add(deadline)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.take().end(kind, error, trace)

    def __repr__(self) -> str:
        return f"Timeout({self.seconds:g})"


class Deadline:
    """The time of one call."""

    __slots__ = ("_clock", "_scope", "_seconds", "_watch", "_what")

    def __init__(self, seconds: float, *, clock: Clock | None, what: str) -> None:
        self._seconds = seconds
        self._clock = clock
        self._what = what
        self._scope = asyncio.timeout(seconds if clock is None else None)
        self._watch: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Starts the time, in the task that makes the call."""
        await self._scope.__aenter__()
        if self._clock is not None:
            self._watch = asyncio.create_task(self._expire(self._clock))

    async def end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the time; raises `TimedOut` when it was up and the call was cancelled for that."""
        if self._watch is not None:
            self._watch.cancel()
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError:
            raise TimedOut(
                f"{self._what} was not done after {self._seconds:g} s, the limit of its Timeout. "
                "Find out what it waited for, or raise the limit.",
                seconds=self._seconds,
            ) from error

    async def _expire(self, clock: Clock) -> None:
        await clock.sleep(self._seconds)
        self._scope.reschedule(asyncio.get_running_loop().time())


class Entered(Generic[E]):
    """What each task has entered and not yet left, so that one value can be used by many tasks at once."""

    __slots__ = ("_by_task",)

    def __init__(self) -> None:
        self._by_task: WeakKeyDictionary[asyncio.Task[Any], list[E]] = WeakKeyDictionary()

    def add(self, entry: E) -> None:
        """Notes what the running task has entered."""
        self._by_task.setdefault(_this_task(), []).append(entry)

    def take(self) -> E:
        """Gives back what the running task has entered last."""
        task = _this_task()
        entries = self._by_task.get(task)
        if not entries:
            raise RuntimeError("This `async with` is left by another task than entered it. Leave it in the same task.")
        entry = entries.pop()
        if not entries:
            del self._by_task[task]
        return entry


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("This `async with` runs outside a task. Use it in a coroutine that asyncio runs.")
    return task
