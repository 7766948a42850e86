"""`torpor topics`: what differs, what is done, and how it ends. Real brokers are elsewhere; this one is played."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from torpor import Topic, assembly
from torpor.cli import main
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.kernel.topic import TopicPowers, TopicState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torpor.ports.consumer import Subscription

SERVICE = """
from torpor import Event, Service, Topic

class Placed(Event, topic="orders.placed", key="id"):
    id: str

class Paid(Event, topic="orders.paid", key="id"):
    id: str

orders = Service("orders", topics=[Topic("orders.placed", partitions=4, retention=86400), Topic("orders.paid", {wish})])

@orders.on(Placed)
async def handle(event: Placed) -> Paid: ...
"""


class PlayedAdmin:
    """A broker that takes at most six partitions."""

    powers = TopicPowers(
        "Played", settings=frozenset({"partitions", "retention"}), fixed={"retention": "it is carved in stone"}
    )

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.groups: set[tuple[str, str]] = set()
        self.is_away = False
        self.connections = 0

    async def start(self) -> None:
        if self.is_away:
            raise BrokerUnavailable("The played broker is away.")
        self.connections += 1

    async def find(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        return {name: TopicState(self.topics[name]) for name in names if name in self.topics}

    async def missing(self, subscriptions: Sequence[Subscription]) -> Sequence[Subscription]:
        return [one for one in subscriptions if (one.topic, one.group) not in self.groups]

    async def make(self, topic: Topic) -> None:
        self.topics[topic.name] = Topic(topic.name, partitions=1, retention=100)
        await self.change(topic)

    async def change(self, topic: Topic) -> None:
        if (topic.partitions or 1) > 6:
            raise ConfigurationError([f"Topic {topic.name!r} gets no {topic.partitions} partitions: at most 6."])
        self.topics[topic.name] = Topic(
            topic.name,
            partitions=topic.partitions or self.topics[topic.name].partitions,
            retention=topic.retention or self.topics[topic.name].retention,
        )

    async def begin(self, subscriptions: Sequence[Subscription]) -> None:
        self.groups |= {(one.topic, one.group) for one in subscriptions}

    async def stop(self) -> None:
        self.connections -= not self.is_away


class Kit:
    """A service in a folder, and the broker."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "found_orders.py"
        self.admin = PlayedAdmin()
        self.written = 0
        self.write("partitions=2")

    def write(self, wish: str) -> None:
        """Each time another size: bytecode knows its source by size and second."""
        self.written += 1
        self.file.write_text(SERVICE.replace("{wish}", wish) + "\n" * self.written)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """The broker stands where the real ones are opened."""
    kit = Kit(tmp_path)
    monkeypatch.setenv("TORPOR_BROKER_URL", "kafka://played")
    monkeypatch.setenv("TORPOR_DATABASE_URL", "memory://")
    monkeypatch.setattr(assembly, "open_topics", lambda settings: kit.admin)  # noqa: ARG005
    return kit


def run(kit: Kit, command: str, *options: str) -> int:
    """One command over the service, loaded anew."""
    import sys

    sys.modules.pop("found_orders", None)
    return main(["topics", command, str(kit.file), *options])


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command has printed as JSON."""
    return json.loads(capsys.readouterr().out)


def test_plan_tells_what_differs_and_changes_nothing(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 1 while something differs, names each step, and leaves the broker as it was."""
    assert run(kit, "plan") == 1
    shown = capsys.readouterr().out
    for part in ("make", "orders.placed", "partitions 4, retention 1d", "begin", "group orders", "torpor topics apply"):
        assert part in shown
    assert (kit.admin.topics, kit.admin.groups, kit.admin.connections) == ({}, set(), 0)


def test_apply_makes_it_so_and_again_does_nothing(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """Both end with 0, and then `plan` does too; as JSON the second has done nothing."""
    assert run(kit, "apply") == 0
    assert kit.admin.groups == {("orders.placed", "orders")}
    assert "Topics: 2, groups: 1, all as they are needed." in capsys.readouterr().out
    assert run(kit, "apply", "--json") == 0
    assert told(capsys) == {"broker": "Played", "done": [], "impossible": []}
    assert run(kit, "plan", "--json") == 0
    assert told(capsys) == {"broker": "Played", "steps": [], "unheeded": []}


def test_what_cannot_be_done_is_told_and_the_rest_is_done(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """`apply` then ends with 1, as `plan` does."""
    run(kit, "apply")
    kit.write("partitions=1")
    kit.admin.groups.clear()
    capsys.readouterr()
    assert run(kit, "apply", "--json") == 1
    answer = told(capsys)
    assert [step["step"] for step in answer["done"]] == ["begin"]
    (step,) = answer["impossible"]
    assert (step["topic"], step["found"], step["wished"]) == ("orders.paid", 2, 1)
    assert run(kit, "plan") == 1
    assert "1 cannot be done from here." in capsys.readouterr().out


def test_a_wish_that_means_nothing_there_is_told(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """It differs from nothing, so the command ends with 0."""
    kit.write("partitions=2, max_bytes=1000")
    assert run(kit, "apply") == 0
    assert "orders.paid: max_bytes=1000 means nothing on Played." in capsys.readouterr().out


def test_what_deletes_messages_asks(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an answer nothing is done; `--yes` answers, and the question is not on stdout."""
    run(kit, "apply")
    monkeypatch.setattr(PlayedAdmin, "powers", TopicPowers("Played", settings=frozenset({"partitions", "retention"})))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    kit.write("partitions=2, retention=50")
    capsys.readouterr()
    assert run(kit, "apply", "--json") == 1
    output = capsys.readouterr()
    assert output.out.strip() == ""
    assert "Messages are deleted" in output.err
    assert "older than 50s" in output.err
    assert kit.admin.topics["orders.paid"].retention == 100
    assert run(kit, "apply", "--yes") == 0
    assert kit.admin.topics["orders.paid"].retention == 50


def test_what_the_broker_refuses_ends_with_2(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """Its reason is told, and what could be done was done."""
    kit.write("partitions=7")
    assert run(kit, "apply") == 2
    assert "gets no 7 partitions" in capsys.readouterr().err
    assert kit.admin.topics["orders.placed"].partitions == 4


def test_a_broker_that_is_away_ends_with_2(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told in one line, by both."""
    kit.admin.is_away = True
    assert [run(kit, "plan"), run(kit, "apply")] == [2, 2]
    assert "The played broker is away." in capsys.readouterr().err


def test_a_service_without_a_database_needs_its_topic_of_parked_messages(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one a message could not be set aside."""
    monkeypatch.delenv("TORPOR_DATABASE_URL")
    run(kit, "apply")
    assert sorted(kit.admin.topics) == ["orders.paid", "orders.parked", "orders.placed"]


def test_a_broker_in_memory_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both say so, and end with 0; without a broker they say what to set."""
    kit = Kit(tmp_path)
    monkeypatch.setenv("TORPOR_BROKER_URL", "memory://")
    assert [run(kit, "plan"), run(kit, "apply")] == [0, 0]
    assert capsys.readouterr().out.count("there is nothing to do") == 2
    assert run(kit, "plan", "--json") == 0
    assert told(capsys)["steps"] == []
    monkeypatch.delenv("TORPOR_BROKER_URL")
    assert run(kit, "plan") == 2
    assert "TORPOR_BROKER_URL is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wish", "part"),
    [
        ("partitions=0", "partitions=0"),
        ("compacted=True, partitions=2), Topic('orders.placd'", "Did you mean 'orders.placed'?"),
        ("partitions=2), Topic('orders.paid', partitions=3", "Wish it once"),
        ("partitions=2), ('orders.paid', 3", "Give a Topic(...)"),
    ],
)
def test_wishes_that_cannot_be_are_found_before(
    kit: Kit, capsys: pytest.CaptureFixture[str], wish: str, part: str
) -> None:
    """Bad values, unknown topics, two wishes for one and strangers are mistakes of the services."""
    kit.write(wish)
    assert run(kit, "plan") == 2
    assert part in capsys.readouterr().err


def test_a_compacted_topic_needs_keys(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    """Kafka would refuse each message without one."""
    kit.file.write_text(SERVICE.replace("{wish}", "compacted=True").replace('"orders.paid", key="id"', '"orders.paid"'))
    assert run(kit, "plan") == 2
    assert "Paid has no key, and its topic 'orders.paid' is compacted" in capsys.readouterr().err
