"""The simulation is worth its time: each old fault, put back, turns it red, and by the invariant that names it."""

from __future__ import annotations

import pytest

from tests.simulation import mutants
from tests.simulation import passing_mutants as passers
from torpor.testing.simulation import Parts, ledger, passing, simulate

SEEDS = range(200)


@pytest.mark.parametrize(
    ("parts", "invariant"),
    [
        pytest.param(mutants.storing(unit=mutants.ForgetfulUnit), ledger.ONE_EFFECT, id="no inbox"),
        pytest.param(mutants.hasty(), ledger.ONE_EFFECT, id="acknowledged before the commit"),
        pytest.param(mutants.answering_at_once(), ledger.ONE_EFFECT, id="a push answered before the commit"),
        pytest.param(mutants.storing(unit=mutants.GenerousUnit), ledger.ONE_EFFECT, id="a claim that everybody wins"),
        pytest.param(mutants.storing(unit=mutants.HastyTimerUnit), ledger.FIRED, id="timers before the commit"),
        pytest.param(mutants.storing(unit=mutants.HastyUnit), ledger.PUBLISHED, id="outbox rows before the commit"),
        pytest.param(mutants.relaying(mutants.BoldRelay), ledger.PUBLISHED, id="the cursor before the publish"),
        pytest.param(mutants.relaying(mutants.CarelessRelay), ledger.PUBLISHED, id="refused messages dropped"),
        pytest.param(mutants.storing(outbox=mutants.ShuffledOutbox), ledger.COMMIT_ORDER, id="an outbox out of order"),
        pytest.param(mutants.storing(outbox=mutants.GappyOutbox), ledger.PUBLISHED, id="a gap in what is read ahead"),
        pytest.param(mutants.relaying(mutants.HeedlessRelay), ledger.COMMIT_ORDER, id="read ahead of a refusal"),
        pytest.param(mutants.storing(outbox=mutants.RewindingOutbox), ledger.NEVER_BACK, id="a cursor that goes back"),
        pytest.param(mutants.storing(leases=mutants.BackwardLeases), ledger.NEVER_BACK, id="epochs that fall"),
        pytest.param(mutants.storing(outbox=mutants.UnfencedOutbox), ledger.FENCED, id="an epoch without a fence"),
        pytest.param(mutants.relaying(mutants.RepeatingRelay), ledger.BOUNDED, id="a relay that repeats itself"),
        pytest.param(mutants.storing(parking=mutants.EagerParking), ledger.PARKED_FIRST, id="no head of a key"),
        pytest.param(
            mutants.storing(unit=mutants.JostlingUnit), ledger.PARKED_FIRST, id="nothing waits behind its key"
        ),
        pytest.param(passers.exchanging(passers.RepeatingExchange), passing.ANSWERED_ONCE, id="a request sent twice"),
        pytest.param(passers.exchanging(passers.HastyExchange), passing.ANSWERED_ONCE, id="answered before the commit"),
        pytest.param(passers.exchanging(passers.EchoingExchange), passing.FLEETING, id="a fleeting event told twice"),
        pytest.param(passers.exchanging(passers.TalkativeExchange), passing.FLEETING, id="told before the commit"),
        pytest.param(passers.exchanging(passers.ForgetfulExchange), passing.NOTHING_LEFT, id="waiting is never over"),
        pytest.param(passers.hosting(passers.PatientHost), ledger.NEVER_STUCK, id="no end of waiting"),
        pytest.param(mutants.without_redriver(), ledger.NEVER_STUCK, id="nobody redrives"),
    ],
)
def test_an_old_fault_turns_the_simulation_red(parts: Parts, invariant: str) -> None:
    """A part that breaks one rule is found within a few seeds, and the broken invariant is told."""
    for seed in SEEDS:
        broken = {violation.invariant for violation in simulate(seed, parts=parts).violations}
        if invariant in broken:
            return
    pytest.fail(f"{SEEDS.stop} seeds saw nothing of it.")
