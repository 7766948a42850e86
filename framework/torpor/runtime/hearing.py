"""Hearing: the fleeting events of one binding. Each is handled once at most, in order for each key."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from torpor.contract.codec import decode
from torpor.kernel.errors import BrokerUnavailable, DecodeError, NotRunning, StoreUnavailable
from torpor.kernel.message import Delivery, shown
from torpor.runtime.lane import WINDOW, Intake, Taking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.ports.exchange import Heard
    from torpor.runtime.context import Context
    from torpor.runtime.plan import SubscriberBinding
    from torpor.runtime.single import Single


class Hearing:
    """Handles what is heard. A failure is counted and logged; so many may wait, and what comes then is let go."""

    def __init__(self, binding: SubscriberBinding, single: Single, *, context: Context) -> None:
        self._binding = binding
        self._single = single
        self._context = context
        self._numbers = context.metrics.of(binding.handled.name)
        self._log = logging.getLogger(f"torpor.{binding.handled.service}")
        spawn = partial(context.health.watch, binding.handled.name)
        policies = binding.policies
        self.intake = Intake(self._run, spawn=spawn, taking=Taking(lanes=policies.lanes, order=policies.order))

    def take(self, heard: Heard) -> None:
        """Queues an event, if there is room."""
        if self.intake.under_way >= WINDOW:
            self._numbers.lost += 1
        else:
            self.intake.put((Delivery(heard.message, fault=heard.fault),))

    async def _run(self, batch: Sequence[Delivery]) -> int:
        started = self._context.clock.time()
        self._numbers.in_flight += len(batch)
        try:
            for delivery in batch:
                await self._handle(delivery)
        finally:
            self._numbers.in_flight -= len(batch)
        self._numbers.seconds.observe(self._context.clock.time() - started)
        return len(batch)

    async def _handle(self, delivery: Delivery) -> None:
        name, message = self._binding.handled.name, delivery.message
        try:
            if delivery.fault is not None:
                raise DecodeError(delivery.fault)
            await self._single.run(message, decode(self._binding.contract, message))
        except DecodeError as error:
            self._numbers.failed += 1
            self._log.warning("%s cannot read message %s: %s", name, shown(message.id), error)
        except (StoreUnavailable, BrokerUnavailable, NotRunning) as error:
            self._numbers.lost += 1
            self._log.warning("%s misses message %s: %s", name, shown(message.id), error)
        except Exception:  # noqa: BLE001  # whatever a handler raises is counted, told, and not repeated
            self._numbers.failed += 1
            self._log.exception("%s failed on message %s, which is not repeated", name, shown(message.id))
        else:
            self._numbers.done += 1
