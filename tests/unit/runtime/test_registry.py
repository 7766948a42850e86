"""The registry, held against a plain model of groups."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.adapters.memory.clock import VirtualClock
from torpor.runtime.context import Context, Health
from torpor.runtime.ids import new_id
from torpor.runtime.metrics import Metrics
from torpor.runtime.peer import Opening, Peer
from torpor.runtime.registry import Registry
from torpor.runtime.sockets import encoded
from torpor.runtime.tx import Envelope

PEERS, GROUPS = range(4), ("red", "green", "blue")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "join", "leave", "broadcast", "send"]),
        st.sampled_from(PEERS),
        st.lists(st.sampled_from(GROUPS), max_size=3),
    ),
    max_size=40,
)


class Wire:
    """A connection that keeps what it is sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, frame: bytes) -> None:
        """Keeps it."""
        self.frames.append(frame)


def registry() -> Registry:
    """A registry of one process."""
    clock = VirtualClock()
    context = Context(
        clock=clock,
        metrics=Metrics("chat"),
        health=Health(lambda *_: None),
        envelope=Envelope("chat", new_id=new_id, clock=clock),
        committed=lambda _: None,
    )
    return Registry("chat", None, context)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_members_are_those_that_have_joined_and_are_there(steps: list[Any]) -> None:
    """After any steps a group's broadcast reaches its members alone, and nothing is kept of who has gone."""
    board = registry()
    binding: Any = SimpleNamespace()
    peers: list[Any] = [Peer(binding, Wire(), Opening({}), id=str(number)) for number in PEERS]  # type: ignore[arg-type]
    here: dict[int, set[str]] = {}
    expected: dict[int, int] = dict.fromkeys(PEERS, 0)
    for step, number, groups in steps:
        peer = peers[number]
        match step:
            case "add" if number not in here:
                board.add(peer)
                here[number] = set()
            case "remove":
                assert board.remove(peer) is (here.pop(number, None) is not None)
            case "join":
                board.join(peer, groups)
                if number in here:
                    here[number] |= set(groups)
            case "leave":
                board.leave(peer, groups)
                if number in here:
                    here[number] -= set(groups)
            case "broadcast":
                for group in groups:
                    board.broadcast(group, encoded("all"))
                    for other in (other for other, joined in here.items() if group in joined):
                        expected[other] += 1
            case "send":
                board.send_to(peer.id, encoded(b"one"))
                expected[number] += number in here
    assert {number: len(peers[number].wire.frames) for number in PEERS} == expected
    assert len(board) == len(here)
    assert all(set(peers[number].groups) == joined for number, joined in here.items())
    for number in [*here]:
        board.remove(peers[number])
    assert not board._groups  # what would grow for ever
