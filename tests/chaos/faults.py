"""Does what the weather says."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from tests.chaos import weather
from tests.chaos.stage import SERVICES
from tests.chaos.witness import PUBLISHERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.ledger import Ledger
    from tests.chaos.replica import Replica
    from tests.chaos.stage import Stage
    from tests.chaos.weather import Fault
    from tests.chaos.wire import Gate
    from tests.chaos.witness import Witness

CONSUMERS = ("sink", "tail")
_WATCH = 0.2
_SPREAD = 97  # makes further draws of one
_AT_WORK = 0.75
_RESETS = 0.5  # of the partitions end the connections
_SLOW = 0.2  # seconds that everything comes later

T = TypeVar("T")


class Storm:
    """Does the faults of a forecast to a stage, and notes them in the ledger."""

    def __init__(self, stage: Stage, ledger: Ledger, witness: Witness) -> None:
        self._stage = stage
        self._ledger = ledger
        self._witness = witness
        self._database = asyncio.Lock()
        self._broker = asyncio.Lock()

    async def rage(self, faults: Sequence[Fault]) -> None:
        """Does them all, each at its time; those that last go on beside the next."""
        started = time.monotonic()
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
                    group.create_task(self._do(fault))
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH)
            for replica in self._stage.replicas:
                replica.watch()

    async def _do(self, fault: Fault) -> None:
        kind = fault.kind
        if kind == weather.DATABASE:
            await self._restart_database()
        elif kind in weather.BROKER:
            await self._restart_broker(kind)
        elif kind in weather.PARTITIONS:
            await self._part(fault)
        elif kind in weather.CUTS:
            replica = self._stage.replicas[int(fault.draw * len(self._stage.replicas))]
            replica.gate.cut_next_commit(is_forwarded=kind == weather.CUT_AFTER)
            self._ledger.done(kind, replica.name)
        else:
            await self._hit(fault)

    async def _restart_database(self) -> None:
        async with self._database:
            self._ledger.done(weather.DATABASE, "postgres")
            await self._stage.restart_database()
            self._ledger.over("postgres")

    async def _restart_broker(self, kind: str) -> None:
        async with self._broker:
            self._ledger.done(kind, "broker")
            await self._stage.broker.restart(is_killed=kind == weather.BROKER_KILL)
            self._ledger.over("broker")

    async def _part(self, fault: Fault) -> None:
        """Disturbs the line between a replica and a server for a while."""
        line, way = weather.PARTITIONS[fault.kind]
        service = SERVICES[int(fault.draw * len(SERVICES))]
        wanted = None
        if fault.draw * _SPREAD % 1 < _AT_WORK:
            ask = self._witness.holder if service == "source" else self._witness.active
            wanted = await ask(service)
        free = [replica for replica in self._stage.replicas if not _line(replica, line).is_disturbed]
        best = [replica for replica in free if replica.service == service]
        victim = next((replica for replica in best if replica.name == wanted), None)
        victim = victim or _drawn(best or free, fault.draw * _SPREAD % 1)
        if victim is None:
            self._ledger.notes.append(f"{fault.kind} at {fault.at:.1f} s found nobody")
            return
        self._ledger.done(fault.kind, victim.name)
        _disturb(_line(victim, line), way, draw=fault.draw)
        await asyncio.sleep(fault.seconds)
        _line(victim, line).heal(is_reset=fault.draw * _SPREAD * _SPREAD % 1 < _RESETS)
        self._ledger.over(f"{line} {victim.service}")

    async def _hit(self, fault: Fault) -> None:
        """Kills, freezes or stops a replica."""
        victim = await self._victim(fault)
        if victim is None or victim.is_frozen or victim.is_stopping or not victim.is_running:
            self._ledger.notes.append(f"{fault.kind} at {fault.at:.1f} s found nobody")
            return
        self._ledger.done(fault.kind, victim.incarnation)
        if fault.kind in weather.KILLS:
            victim.kill()
        elif fault.kind == weather.STOP:
            whom = victim.incarnation
            began = time.monotonic()
            trouble = await victim.stop()
            self._ledger.longest_stop = max(self._ledger.longest_stop, time.monotonic() - began)
            if trouble is not None:
                self._ledger.unclean_stops += 1
                self._ledger.notes.append(f"{whom} {trouble} after its SIGTERM")
        else:
            victim.freeze()
            await asyncio.sleep(fault.seconds)
            victim.thaw()
            return
        victim.start()

    async def _victim(self, fault: Fault) -> Replica | None:
        """Whom a fault hits: often the one that is at work, since those that stand by have little to lose."""
        stage, draw = self._stage, fault.draw
        if fault.kind == weather.KILL_PRODUCER:
            return _drawn(_free(stage.of("source")), draw)
        if fault.kind == weather.STOP:
            return _drawn(_free(stage.replicas), draw)
        if fault.kind in (weather.KILL_CONSUMER, weather.FREEZE_CONSUMER):
            service = CONSUMERS[int(draw * len(CONSUMERS))]
            wanted = await self._witness.active(service) if draw * _SPREAD % 1 < _AT_WORK else None
        else:
            services = [name for name in PUBLISHERS if len(stage.of(name)) > 1] or PUBLISHERS  # so that one takes over
            service = services[int(draw * len(services))]
            wanted = await self._witness.holder(service)
        free = _free(stage.of(service))
        return next((replica for replica in free if replica.name == wanted), None) or _drawn(free, draw * _SPREAD % 1)


def _line(replica: Replica, line: str) -> Gate:
    return replica.gate if line == weather.DATABASE_LINE else replica.way


def _disturb(gate: Gate, way: str, *, draw: float) -> None:
    if way == weather.SHUT:
        gate.shut()
    elif way == weather.SILENT:
        gate.hold(up=True, down=True)
    elif way == weather.ONE_WAY:
        is_up = draw * _SPREAD * _SPREAD % 1 < 0.5  # half of them
        gate.hold(up=is_up, down=not is_up)
    elif way == weather.SLOW:
        gate.slow(_SLOW)
    else:
        gate.forget()


def _free(replicas: Sequence[Replica]) -> list[Replica]:
    return [replica for replica in replicas if not (replica.is_frozen or replica.is_stopping)]


def _drawn(choices: Sequence[T], draw: float) -> T | None:
    return choices[int(draw * len(choices))] if choices else None
