"""One run from the first process to the verdict."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.askers import Askers
from tests.chaos.client import Clients
from tests.chaos.evidence import Evidence, Standing, gather, stand
from tests.chaos.faults import Storm
from tests.chaos.ledger import Ledger
from tests.chaos.mender import Mender
from tests.chaos.script import REMIND_EVERY
from tests.chaos.stage import Stage
from tests.chaos.verdict import BASE_LINE, Verdict
from tests.chaos.weather import USUAL, Fault, forecast
from tests.chaos.witness import Witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

_POLL = 0.5
_TELL_EVERY = 10.0
_CONNECTIONS = 8  # of a replica at rest: units, what is asked beside them, and one that is just opened
_CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'torpor'"
_REDRIVES = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to be."""

    seconds: float
    messages: int
    seed: int = 1
    keys: int = 400
    replicas: Mapping[str, int] = field(default_factory=lambda: {"source": 2, "sink": 2, "tail": 2})
    rates: Mapping[str, float] = field(default_factory=lambda: USUAL)
    broker: str = "nats"
    mutant: str | None = None
    patience: float = 60.0  # seconds without progress after which what is left counts as stuck
    is_kept: bool = False  # the logs

    @property
    def faults(self) -> list[Fault]:
        """Those that the seed gives."""
        return forecast(self.seed, self.seconds, dict(self.rates))


class Outcome:
    """What a run has found."""

    def __init__(self, plan: Plan, verdict: Verdict, *, seconds: float, lives: int) -> None:
        self.plan = plan
        self.verdict = verdict
        self.seconds = seconds
        self.lives = lives
        self.memory: dict[str, tuple[int, int]] = {}  # KiB at the start and at the end
        self.cuts = 0
        self.passages: dict[str, int] = {}  # connections to the broker by each replica's own way


async def perform(plan: Plan, tell: Callable[[str], None] = print) -> Outcome:
    """Runs it, and judges it. Everything that was started has ended when this returns or raises."""
    started = time.monotonic()
    stage = Stage(plan.replicas, broker=plan.broker, mutant=plan.mutant)
    witness = Witness(stage.database.url(), stage.replicas)
    try:
        run = _Run(plan, stage, witness, tell=tell)
        verdict = await run.through()
        outcome = Outcome(
            plan, verdict, seconds=time.monotonic() - started, lives=sum(replica.lives for replica in stage.replicas)
        )
        outcome.memory = {r.name: (run.memory[r.name], r.memory) for r in stage.replicas}
        outcome.passages = {r.name: len(r.way.passages) for r in stage.replicas}
        outcome.cuts = sum(replica.gate.cuts for replica in stage.replicas)
        if plan.is_kept:
            (stage.folder / "faults").write_text(verdict.ledger.as_text())
        if plan.is_kept or not verdict.is_good:
            tell(f"the logs are in {stage.folder}" if plan.is_kept else "\n".join(stage.log_lines(most=8)))
        return outcome
    finally:
        await witness.close()
        await stage.close(is_kept=plan.is_kept)


class _Run:
    def __init__(self, plan: Plan, stage: Stage, witness: Witness, *, tell: Callable[[str], None]) -> None:
        self.memory: dict[str, int] = {}
        self._plan = plan
        self._stage = stage
        self._witness = witness
        self._tell = tell
        self._ledger = Ledger()
        self._started = time.monotonic()
        self._patience = plan.patience

    async def through(self) -> Verdict:
        """From the first process to the verdict."""
        stage = self._stage
        await stage.open()
        await self._witness.install()
        await stage.start()
        self.memory = {replica.name: replica.memory for replica in stage.replicas}
        self._say(f"{len(stage.replicas)} replicas are ready")
        self._started = time.monotonic()
        await stage.broker.listen()
        try:
            async with _beside(self._witness.sample()), _beside(self._report()):
                before = await self._suffer()
            evidence = await gather(stage, self._witness, self._ledger)
        finally:
            await stage.broker.hush()
        self._say("the evidence is gathered")
        return await self._judge(evidence, before)

    async def _suffer(self) -> Standing:
        """Load and faults, and then calm; returns where everything was before the operator mended what was left."""
        mender = Mender(self._stage, self._ledger, self._witness, seed=self._plan.seed)
        async with _beside(mender.work()):
            await self._load_and_storm()
        self._say(f"{self._ledger.messages} messages are accepted, the faults are over")
        await self._stage.ready()
        before = after = await self._settled(lambda now: now.checked + now.parked >= now.sent)
        self._say(f"settled: {told(before)}")
        await mender.mend_all()
        for _ in range(_REDRIVES):
            await mender.redrive_all()
            earlier = after
            after = await self._settled(lambda now: not now.parked and now.checked >= now.sent)
            if not after.held or after == earlier:
                break
        self._say(f"redriven: {told(after)}")
        await self._come_to_rest()
        return before

    async def _load_and_storm(self) -> None:
        plan, stage = self._plan, self._stage
        clients = Clients(stage.of("source"), self._ledger, seed=plan.seed, keys=plan.keys)
        storm = Storm(stage, self._ledger, self._witness)
        asking = Askers(stage.of("source"), self._ledger, seed=plan.seed).ask() if stage.broker.has_exchange else idle()
        async with _beside(asking), asyncio.TaskGroup() as group:
            group.create_task(clients.place(plan.messages, plan.messages / plan.seconds))
            group.create_task(storm.rage(plan.faults))

    async def _settled(self, is_over: Callable[[Standing], bool]) -> Standing:
        """Waits until a condition holds and nothing is on its way, or until nothing has moved for long."""
        latest, since = None, time.monotonic()
        while True:
            now = await stand(self._witness)
            reminders = sum(last // REMIND_EVERY for last in self._ledger.accepted.values())
            is_quiet = not now.pending and not now.timers and now.counted >= now.sent and now.remembered >= reminders
            if is_quiet and is_over(now):
                return now
            if now != latest:
                latest, since = now, time.monotonic()
            elif time.monotonic() - since > self._patience:
                self._say(f"nothing has moved for {self._patience:g} s: {told(now)}")
                self._patience = self._plan.patience / 4  # what is stuck is broken already
                return now
            await asyncio.sleep(_POLL)

    async def _come_to_rest(self) -> None:
        """Waits until the last acknowledgements have come, and until spare connections are given up."""
        deadline = time.monotonic() + min(20.0, self._patience)
        while time.monotonic() < deadline:
            if not await self._stage.broker.unsettled() and not await self._spare():
                return
            await asyncio.sleep(_POLL)

    async def _spare(self) -> int:
        rows = await self._witness.patiently(_CONNECTED)
        return max(0, int(rows[0][0]) - _CONNECTIONS * len(self._stage.replicas))

    async def _judge(self, evidence: Evidence, before: Standing) -> Verdict:
        verdict = Verdict(self._ledger, evidence, self._stage.broker.published(evidence.sightings))
        verdict.account([("messages done or parked by tail.check", before.sent, before.checked + before.parked)])
        for violation in self._witness.violations:
            verdict.violate(violation.invariant, violation.text)
        for replica in self._stage.replicas:
            for death in replica.deaths:
                verdict.violate(BASE_LINE, death)
        if spare := await self._spare():
            verdict.violate(BASE_LINE, f"{spare} connections to the database are too many.")
        return verdict

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY)
            faults = len(self._ledger.faults)
            now = await stand(self._witness)
            self._say(f"{told(now)}, {faults} faults")

    def _say(self, text: str) -> None:
        self._tell(f"{time.monotonic() - self._started:6.1f} s  {text}")


async def idle() -> None:
    """Does nothing."""


def told(standing: Standing) -> str:
    """Where everything is, in a line."""
    return ", ".join(f"{value} {name}" for name, value in standing._asdict().items())


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
