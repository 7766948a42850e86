"""An event loop without a selector: time is virtual, and which task runs next is drawn from a seed."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from asyncio.events import _set_running_loop
from collections import deque
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from torpor.kernel.errors import NeverSettled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

T = TypeVar("T")

EPOCH = 1_750_000_000.0
_MOST_STEPS = 400_000


class Process:
    """What lives, sleeps and dies together: the tasks that were started in its context."""

    __slots__ = ("awaited", "ended", "fuse", "held", "is_dead", "is_frozen", "name", "trip")

    def __init__(self, name: str, ended: asyncio.Future[None]) -> None:
        self.name = name
        self.ended = ended  # done once it is dead
        self.is_dead = False
        self.is_frozen = False
        self.held: list[asyncio.Handle] = []  # what became runnable while it was frozen
        self.fuse = 0  # the steps of its tasks until `trip` is called; 0 for never
        self.awaited = ""  # the next call that begins so lights the fuse
        self.trip: Callable[[], None] = _nothing

    def context(self) -> Context:
        """A context whose tasks are this process's."""
        context = copy_context()
        context.run(_process.set, self)
        return context

    def __repr__(self) -> str:
        return f"<Process {self.name}{' dead' if self.is_dead else ' frozen' if self.is_frozen else ''}>"


_process: ContextVar[Process] = ContextVar("torpor_simulated_process")


def current_process() -> Process:
    """The process whose code is running."""
    return _process.get()


class SimulationLoop(asyncio.BaseEventLoop):
    """Runs plain callbacks in order, and between them a task chosen by chance. When nothing can run, time moves on.

    A dead process's tasks are never run again, not even to clean up; a frozen one's wait until it thaws.
    """

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self.steps = 0
        self._chance = chance
        self._now = 0.0
        self._callbacks: deque[asyncio.Handle] = deque()
        self._runnable: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []  # so that no abandoned task is collected, which would run its cleanup
        self.errors: list[str] = []

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]  # without the types of the arguments, as all of these
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context or copy_context())
        self._enqueue(handle)
        return handle

    def call_later(  # type: ignore[override]  # see call_soon
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # see call_soon
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context or copy_context())
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_closed():
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def create_task(  # type: ignore[override]  # see call_soon
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context, **options)
        self._tasks.append(task)
        return task

    def run(self, main: Coroutine[Any, Any, T], process: Process, *, seconds: float = 86_400.0) -> T:
        """Runs until `main`, in a process, has ended; returns what it returned. Raises NeverSettled when that takes
        more than so many virtual seconds."""
        _set_running_loop(self)
        try:
            task: asyncio.Task[T] = self.create_task(main, context=process.context())
            while not task.done():
                self._turn()
                if self.steps > _MOST_STEPS or self._now > seconds:
                    raise NeverSettled(f"Not at its end after {self._now:g} virtual seconds and {self.steps} steps.")
            return task.result()
        finally:
            self._abandon()
            _set_running_loop(None)

    def thaw(self, process: Process) -> None:
        """Lets a frozen process go on."""
        process.is_frozen = False
        held, process.held = process.held, []
        for handle in held:
            self._enqueue(handle)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        if isinstance(getattr(_callback_of(handle), "__self__", None), asyncio.Task):
            self._runnable.append(handle)
        else:
            self._callbacks.append(handle)

    def _turn(self) -> None:
        if self._callbacks:
            self._step(self._callbacks.popleft())
        elif self._runnable:
            runnable = self._runnable
            index = int(self._chance.random() * len(runnable))
            runnable[index], runnable[-1] = runnable[-1], runnable[index]
            self._step(runnable.pop())
        else:
            self._move_on()

    def _step(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        process = handle._context[_process]  # type: ignore[attr-defined]  # noqa: SLF001  # a loop's own
        if process.is_dead:
            return
        if process.is_frozen:
            process.held.append(handle)
            return
        self.steps += 1
        handle._run()  # noqa: SLF001  # a loop's own
        if process.fuse:
            process.fuse -= 1
            if not process.fuse:
                process.trip()

    def _move_on(self) -> None:
        """Moves the time to the next timer that somebody still waits for."""
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._now = max(self._now, when)
                self._enqueue(timer)
                return
        raise NeverSettled("Nothing can run, and nobody waits for a time: every task waits for another.")

    def _abandon(self) -> None:
        """Ends what is left. Its cleanup runs now, when nobody looks any more."""
        self.close()
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and coroutine is not None:
                with contextlib.suppress(RuntimeError):  # it would wait in its cleanup
                    coroutine.close()
        self._callbacks.clear()
        self._runnable.clear()
        self._timers.clear()
        self._tasks.clear()


class LoopClock:
    """The loop's virtual time as wall time, with the error of one machine's clock."""

    def __init__(self, loop: SimulationLoop, skew: float = 0.0) -> None:
        self._loop = loop
        self._skew = skew

    def time(self) -> float:
        return EPOCH + self._loop.time() + self._skew

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True


def immediately(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never waits, as one step that nothing can come between."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # a coroutine's value is its type's
    work.close()
    raise NeverSettled(f"{work!r} waits, and was to be done at once.")


def _callback_of(handle: Any) -> Any:
    return handle._callback  # noqa: SLF001  # a loop's own


def _nothing() -> None:
    """A fuse that is not armed does nothing."""
