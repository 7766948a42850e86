"""The chaos run is worth its time: each old fault, put back, turns it red, and by the promise that names it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from tests.chaos import weather
from tests.chaos.report import violations
from tests.chaos.run import Plan
from torpor.testing.simulation import ledger, passing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.chaos.run import Outcome

    Run = Callable[[Plan], Awaitable[Outcome]]

ONE_EACH = MappingProxyType({"source": 1, "sink": 1, "tail": 1})
TWO_SOURCES = MappingProxyType({"source": 2, "sink": 1, "tail": 1})
SECONDS = 6.0
SEEDS = 6
EVERY_SECOND = 60.0  # a minute


TAKEOVER = 6.0  # and a little more: when Kafka gives a dead consumer's partitions to the next
ACK_WAIT = 12.0  # and a little more: when the broker gives again what a dead consumer held


def short(
    mutant: str,
    rates: Mapping[str, float],
    *,
    replicas: Mapping[str, int] = ONE_EACH,
    patience: float = 2.5,
    broker: str = "nats",
    seed: int = 1,
) -> Plan:
    """A run of a few seconds, under the faults that show this one."""
    return Plan(
        seconds=SECONDS,
        messages=900,
        keys=60,
        replicas=replicas,
        rates=rates,
        seed=seed,
        broker=broker,
        mutant=mutant,
        patience=patience,
    )


PLANS = {
    "no-inbox": (short("no-inbox", {weather.CUT_AFTER: 3 * EVERY_SECOND}), ledger.ONE_EFFECT),
    "no-memory": (short("no-memory", {weather.CUT_AFTER: 3 * EVERY_SECOND}, seed=2), ledger.ONE_EFFECT),
    "no-sequence": (short("no-sequence", {weather.CUT_BEFORE: 0.0}), ledger.PARKED_FIRST),
    "early-acknowledgement": (
        short("early-acknowledgement", {weather.KILL_CONSUMER: 2 * EVERY_SECOND}),
        ledger.ONE_EFFECT,
    ),
    "early-publishing": (short("early-publishing", {weather.CUT_BEFORE: 3 * EVERY_SECOND}), ledger.PUBLISHED),
    "early-cursor": (short("early-cursor", {weather.KILL_RELAY: EVERY_SECOND}), ledger.PUBLISHED),
    "repeating-relay": (short("repeating-relay", {weather.KILL_RELAY: 0.0}), ledger.BOUNDED),
    "no-redriver": (short("no-redriver", {weather.KILL_CONSUMER: 0.0}), ledger.NEVER_STUCK),
    "falling-cursor": (short("falling-cursor", {weather.KILL_RELAY: 0.0}), ledger.NEVER_BACK),
    "two-answers": (short("two-answers", {weather.CUT_BEFORE: 0.0}), passing.ANSWERED_ONCE),
    "early-answer": (short("early-answer", {weather.CUT_BEFORE: 3 * EVERY_SECOND}), passing.ANSWERED_ONCE),
    "two-tellings": (short("two-tellings", {weather.CUT_BEFORE: 0.0}), passing.FLEETING),
    "no-takeover": (
        short("no-takeover", {weather.KILL_CONSUMER: EVERY_SECOND / 2}, patience=ACK_WAIT),
        ledger.COMMIT_ORDER,
    ),
    "no-fence": (
        short("no-fence", {weather.FREEZE_RELAY: EVERY_SECOND / SECONDS}, replicas=TWO_SOURCES),
        ledger.FENCED,
    ),
}
SILENCE = {weather.partition(weather.BROKER_LINE, weather.SILENT): EVERY_SECOND / 2}
OBLIVION = {weather.partition(weather.BROKER_LINE, weather.FORGOTTEN): EVERY_SECOND / 2}
ON_KAFKA = {
    "commit-by-fetching": ({weather.KILL_CONSUMER: EVERY_SECOND / 2}, 1, ledger.ONE_EFFECT),
    "leaping-watermark": ({weather.KILL_CONSUMER: EVERY_SECOND / 2}, 2, ledger.ONE_EFFECT),
    "no-confirmation": (SILENCE, 10, ledger.PUBLISHED),  # a seed that hits publishers, and resets their connections
    "any-partition": ({weather.KILL_CONSUMER: 0.0}, 1, ledger.COMMIT_ORDER),
    "no-timeouts": (OBLIVION, 1, ledger.NEVER_STUCK),
}
PLANS |= {
    name: (short(name, rates, broker="kafka", patience=TAKEOVER, seed=seed), promise)
    for name, (rates, seed, promise) in ON_KAFKA.items()
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", PLANS)
async def test_an_old_fault_turns_the_chaos_red(run: Run, name: str) -> None:
    """A part that breaks one rule is found in seconds, and the broken promise is told. Whether a fault hits the moment
    that shows it is chance, so a few seeds may try."""
    plan, promise = PLANS[name]
    told = []
    for seed in range(plan.seed, plan.seed + SEEDS):
        outcome = await run(replace(plan, seed=seed))
        if promise in outcome.verdict.counts:
            return
        told.append(f"seed {seed}: {', '.join(violations(outcome)) or 'nothing was broken'}")
    pytest.fail("\n".join(told))


async def test_what_merely_slows_the_relay_stays_green(run: Run) -> None:
    """The pause that shows a missing fence breaks nothing where the fence is."""
    rates = {weather.FREEZE_RELAY: EVERY_SECOND / SECONDS}
    outcome = await run(short("slow-relay", rates, replicas=TWO_SOURCES))
    assert not violations(outcome)


async def test_what_shows_faults_on_kafka_breaks_nothing_by_itself(run: Run) -> None:
    """Slow keys lose nothing where the watermark is right, nor do forgotten connections where there are timeouts."""
    rates = {weather.KILL_CONSUMER: EVERY_SECOND / 2} | OBLIVION | SILENCE
    outcome = await run(short("slow-keys", rates, broker="kafka", patience=3 * TAKEOVER))
    assert not violations(outcome)
