"""The circuit breaker's rules, without a clock or a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from torpor.kernel.breaker import Circuit, Permit, Refusal

if TYPE_CHECKING:
    from torpor.kernel.breaker import Outcome, State

OUTCOMES = st.sampled_from(["succeeded", "failed", "abandoned"])


def called(circuit: Circuit, outcome: Outcome, now: float = 0.0) -> State | None:
    """Makes a call that takes no time and must be let through."""
    permit = circuit.ask(now)
    assert isinstance(permit, Permit)
    return circuit.settle(permit, outcome, now)


def opened(failures: int = 2, *, at: float = 0.0) -> Circuit:
    """A circuit that has just opened."""
    circuit = Circuit(failures=failures, of=2 * failures, open_seconds=10)
    changes = [called(circuit, "failed", at) for _ in range(failures)]
    assert changes == [None] * (failures - 1) + ["open"]
    return circuit


@given(st.integers(1, 5), st.integers(0, 5), st.lists(st.booleans(), max_size=60))
def test_a_closed_circuit_lets_few_failures_through(failures: int, more: int, results: list[bool]) -> None:
    """Of the results of one closed circuit never more than `failures` fail in a row, or within any `of` calls."""
    of, circuit, seen = failures + more, Circuit(failures=failures, of=failures + more, open_seconds=10), list[bool]()
    for has_failed in results:
        permit = circuit.ask(0)
        if isinstance(permit, Refusal):
            break
        circuit.settle(permit, "failed" if has_failed else "succeeded", 0)
        seen.append(has_failed)
        is_over = sum(seen[-of:]) >= failures
        assert circuit.state == ("open" if is_over else "closed")
    assert all(sum(seen[at : at + of]) <= failures for at in range(len(seen)))


@given(st.floats(0, 9.999), st.floats(10, 1e6))
def test_an_open_circuit_refuses_until_the_time_has_come(early: float, late: float) -> None:
    """It refuses every call before `open_seconds` have passed, tells how long, and lets the next one through."""
    circuit = opened()
    refusal = circuit.ask(early)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after == pytest.approx(10 - early)
    assert isinstance(circuit.ask(late), Permit)
    assert circuit.state == "half-open"


@given(st.integers(1, 20), st.floats(0, 9.999))
def test_a_probe_goes_alone(others: int, later: float) -> None:
    """While a probe is under way all other calls are refused."""
    circuit = opened()
    assert isinstance(circuit.ask(10), Permit)
    assert all(isinstance(circuit.ask(10 + later), Refusal) for _ in range(others))


def test_a_probe_decides() -> None:
    """A probe that succeeds closes the circuit with a clean sheet, one that fails opens it for as long again."""
    circuit = opened()
    assert called(circuit, "failed", 10) == "open"
    assert isinstance(circuit.ask(19.9), Refusal)
    assert called(circuit, "succeeded", 20) == "closed"
    assert (circuit.failed, circuit.counted) == (0, 0)
    assert called(circuit, "failed", 20) is None


def test_an_abandoned_probe_leaves_its_place() -> None:
    """A probe that was cancelled has shown nothing: the next call probes at once."""
    circuit = opened()
    assert called(circuit, "abandoned", 10) == "open"
    assert circuit.seconds_left(10) == 0
    assert called(circuit, "succeeded", 10) == "closed"


def test_a_lost_probe_does_not_hold_the_circuit_for_ever() -> None:
    """A probe that has not come back after `open_seconds` is followed by another; the first answer counts."""
    circuit = opened()
    first, refused, second = circuit.ask(10), circuit.ask(19.9), circuit.ask(20)
    assert isinstance(first, Permit)
    assert isinstance(refused, Refusal)
    assert isinstance(second, Permit)
    assert circuit.settle(first, "succeeded", 21) == "closed"
    assert circuit.settle(second, "failed", 22) is None
    assert circuit.failed == 0


def test_a_late_result_changes_nothing() -> None:
    """A call that began before the circuit opened neither closes it, nor counts after it has closed again."""
    circuit = Circuit(failures=1, of=1, open_seconds=10)
    early = circuit.ask(0)
    assert isinstance(early, Permit)
    assert called(circuit, "failed") == "open"
    assert circuit.settle(early, "succeeded", 1) is None
    assert isinstance(circuit.ask(1), Refusal)
    assert called(circuit, "succeeded", 10) == "closed"
    assert circuit.settle(early, "failed", 11) is None
    assert isinstance(circuit.ask(11), Permit)


def test_an_abandoned_call_does_not_count() -> None:
    """Cancelled calls are neither failures nor successes."""
    circuit = Circuit(failures=2, of=2, open_seconds=10)
    for _ in range(10):
        assert called(circuit, "abandoned") is None
    assert circuit.counted == 0
    assert [called(circuit, "failed"), called(circuit, "abandoned"), called(circuit, "failed")] == [None, None, "open"]


def test_a_clock_that_is_set_back_does_not_keep_it_open() -> None:
    """After a jump to the past the circuit is open for `open_seconds` from then, not until the old time comes."""
    circuit = opened(at=1_000_000)
    refusal = circuit.ask(5)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after == 10
    assert isinstance(circuit.ask(15), Permit)


def test_reset_closes_and_forgets() -> None:
    """A circuit that is reset lets calls through, and calls from before change nothing."""
    circuit = opened()
    probe = circuit.ask(10)
    circuit.reset()
    assert isinstance(probe, Permit)
    assert circuit.settle(probe, "failed", 10) is None
    assert (circuit.state, circuit.failed, circuit.counted) == ("closed", 0, 0)


def test_a_circuit_shows_its_state() -> None:
    """Its repr tells state and counts, a refusal's tells the wait."""
    circuit = opened()
    assert repr(circuit) == "<Circuit open, 2 of 2 failed>"
    assert repr(circuit.ask(4)) == "Refusal(6)"


class Calls(RuleBasedStateMachine):
    """Calls that overlap at will, against what a caller may rely on."""

    under_way = Bundle("under_way")

    @initialize(failures=st.integers(1, 4), more=st.integers(0, 4), open_seconds=st.integers(1, 5))
    def begin(self, failures: int, more: int, open_seconds: int) -> None:
        self.circuit = Circuit(failures=failures, of=failures + more, open_seconds=open_seconds)
        self.open_seconds, self.now = open_seconds, 0
        self.closed_until = 0  # no call may go through before

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(target=under_way)
    def call(self) -> object:
        before, answer = self.circuit.state, self.circuit.ask(self.now)
        if before == "closed":
            assert isinstance(answer, Permit)
        else:
            assert isinstance(answer, Permit) == (self.now >= self.closed_until)
        if isinstance(answer, Refusal):
            assert answer.retry_after == self.closed_until - self.now
            return multiple()
        if before != "closed":
            assert self.circuit.state == "half-open"
            self.closed_until = self.now + self.open_seconds
        return answer

    @rule(permit=consumes(under_way), outcome=OUTCOMES)
    def end(self, permit: Permit, outcome: Outcome) -> None:
        before, change = self.circuit.state, self.circuit.settle(permit, outcome, self.now)
        assert self.circuit.state == (change or before)
        allowed: dict[State, dict[Outcome, State]] = {
            "closed": {"failed": "open"},
            "open": {},
            "half-open": {"failed": "open", "abandoned": "open", "succeeded": "closed"},
        }
        assert change in (None, allowed[before].get(outcome))
        if change == "open":
            self.closed_until = self.now + (self.open_seconds if outcome == "failed" else 0)

    @invariant()
    def counts_are_sound(self) -> None:
        if hasattr(self, "circuit"):
            assert self.circuit.failed <= self.circuit.failures
            assert (self.circuit.failed < self.circuit.failures) == (self.circuit.state == "closed")


def test_overlapping_calls_keep_the_rules() -> None:
    """Whatever calls overlap, and however they end: refusals, probes and counts are as the class says."""
    run_state_machine_as_test(Calls)
