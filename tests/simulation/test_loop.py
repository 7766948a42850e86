"""The loop under the simulation: virtual time, tasks in an order drawn from the seed, death and sleep of processes."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from torpor.kernel.errors import NeverSettled
from torpor.testing.simulation.loop import Process, SimulationLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def run(main: Callable[[SimulationLoop], Coroutine[Any, Any, T]], seed: int = 0) -> T:
    loop = SimulationLoop(Random(seed))
    return loop.run(main(loop), Process("world", loop.create_future()))


def test_time_passes_only_when_nothing_can_run() -> None:
    """An hour of sleep takes no time, and ends at the right one."""

    async def main(loop: SimulationLoop) -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        return loop.time()

    assert run(main) == 3600


def test_the_seed_chooses_which_task_goes_on() -> None:
    """Tasks that could all run take turns in another order for another seed, and in the same for the same."""

    async def main(loop: SimulationLoop) -> list[int]:
        order: list[int] = []

        async def turn(number: int) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                order.append(number)

        await asyncio.gather(*(turn(number) for number in range(5)))
        return order

    assert run(main, seed=1) == run(main, seed=1)
    assert len({tuple(run(main, seed=seed)) for seed in range(10)}) > 5


def test_a_dead_process_does_not_even_clean_up() -> None:
    """Tasks of a dead process never run again: no `finally`, no cancellation, no timer."""
    seen: list[str] = []

    async def main(loop: SimulationLoop) -> list[str]:
        async def live() -> None:
            try:
                await asyncio.sleep(1)
                seen.append("woke")
            finally:
                seen.append("cleaned up")

        process = Process("service", loop.create_future())
        loop.create_task(live(), context=process.context())
        await asyncio.sleep(0.5)
        process.is_dead = True
        await asyncio.sleep(10)
        return list(seen)

    assert run(main) == []


def test_a_frozen_process_goes_on_where_it_was() -> None:
    """What became due while a process was frozen runs once it thaws."""

    async def main(loop: SimulationLoop) -> tuple[list[float], list[float]]:
        woke: list[float] = []

        async def live() -> None:
            await asyncio.sleep(1)
            woke.append(loop.time())

        process = Process("service", loop.create_future())
        loop.create_task(live(), context=process.context())
        await asyncio.sleep(0.5)
        process.is_frozen = True
        await asyncio.sleep(5)
        before = list(woke)
        loop.thaw(process)
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        return before, woke

    assert run(main) == ([], [5.5])


def test_a_fuse_burns_down_with_the_steps_of_its_process() -> None:
    """A fault can be set between any two awaits: after so many steps of the tasks of one process."""

    async def main(loop: SimulationLoop) -> int:
        steps = 0

        async def live() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        process = Process("service", loop.create_future())

        def die() -> None:
            process.is_dead = True

        process.fuse, process.trip = 7, die
        loop.create_task(live(), context=process.context())
        await asyncio.sleep(1)
        return steps

    assert run(main) == 7


def test_a_run_in_which_everybody_waits_is_told() -> None:
    """A deadlock is an error at once, and no test that hangs."""

    async def main(loop: SimulationLoop) -> None:
        await loop.create_future()

    with pytest.raises(NeverSettled, match="every task waits"):
        run(main)
