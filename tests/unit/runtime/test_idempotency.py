"""The fingerprint of a request, the policy's checks, and the mistakes that are told at bind."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import Depends, Idempotent, Service, StepKey, Transactions, Tx
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.binding import bind
from torpor.runtime.idempotency import fingerprint_of

PARTS = st.lists(st.binary(max_size=12), max_size=5)


def client(step_key: StepKey) -> str:
    """A dependency that makes a key."""
    return step_key("x")


@given(PARTS, PARTS)
def test_two_requests_are_alike_when_all_their_parts_are(one: list[bytes], other: list[bytes]) -> None:
    """No bytes can move from one part to its neighbour unseen."""
    assert (fingerprint_of(one) == fingerprint_of(other)) == (one == other)


@given(st.binary(max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_where_a_part_ends_counts(data: bytes, first: int, second: int) -> None:
    """The same bytes cut in two places are two requests."""
    one, other = [data[:first], data[first:]], [data[:second], data[second:]]
    assert (fingerprint_of(one) == fingerprint_of(other)) == (one == other)


@pytest.mark.parametrize("keep", [0.0, -1.0, float("nan"), float("inf")])
def test_a_policy_says_how_long(keep: float) -> None:
    """An answer is kept for a time above zero that ends."""
    with pytest.raises(ConfigurationError, match=r"Idempotent\(keep="):
        Idempotent(keep=keep)
    assert repr(Idempotent(required=True)) == "Idempotent(required=True, keep=86400)"


def test_every_mistake_is_told_at_bind() -> None:
    """The policy on a GET, without Tx, or as another value, and a step key without the policy are told together."""
    service = Service("orders")
    wrong: Any = True

    @service.get("/read", idempotency=Idempotent())
    async def read(tx: Tx) -> None: ...

    @service.post("/apart", idempotency=Idempotent())
    async def apart(transactions: Transactions) -> None: ...

    @service.post("/flag", idempotency=wrong)
    async def flag(tx: Tx) -> None: ...

    @service.post("/steps")
    async def steps(tx: Tx, client: Annotated[str, Depends(client)]) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    told = str(caught.value)
    assert len(caught.value.problems) == 4
    for text in ("answers GET with idempotency=", "does not ask for Tx", "idempotency=True", "asks for StepKey"):
        assert text in told
