"""Schedules: each tick is a message with the tick's time in its id, so that the inbox lets it happen once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.message import Delivery, Message

if TYPE_CHECKING:
    from torpor.runtime.context import Committed
    from torpor.runtime.host import Host
    from torpor.runtime.plan import TickerBinding


class Ticker:
    """Delivers the ticks of a service's schedules. Ticks that fall while no replica runs are skipped."""

    is_idle = True

    def committed(self, rows: Committed) -> None:
        """Commits do not concern schedules."""

    async def run(self, host: Host) -> None:
        """Ticks until cancelled."""
        async with asyncio.TaskGroup() as group:
            for binding in host.plan.tickers:
                group.create_task(self._tick(binding, host))

    async def finish(self, host: Host) -> None:
        """Leaves nothing."""

    async def _tick(self, binding: TickerBinding, host: Host) -> None:
        name = binding.handled.name
        while True:
            now = host.clock.time()
            tick = binding.schedule.after(now)
            await host.clock.sleep(tick - now)
            message = Message(f"torpor.tick.{name}", b"", id=f"{name}@{tick:.3f}", type="torpor.tick")
            host.deliverers[name](Delivery(message))
