"""What `torpor topics` finds and does on a NATS server: streams of others, permissions, and several groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torpor.adapters.nats.administration import JetStreamTopicAdmin
from torpor.adapters.nats.options import JetStreamOptions
from torpor.cli import main
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.kernel.topic import Topic
from torpor.ports.consumer import Subscription
from torpor.runtime.provision import Need, compare, provide
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take
from torpor.testing.conformance.broker_progress import progress_when

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from torpor.adapters.nats.broker import JetStreamBroker
    from torpor.adapters.nats.embedded import EmbeddedNats

    Serve = Callable[..., EmbeddedNats]
    Connect = Callable[..., Awaitable[JetStreamBroker]]
    Ask = Callable[..., Awaitable[dict[str, Any]]]

_DAY = 86_400


@pytest.fixture
async def admin(nats_server: EmbeddedNats) -> AsyncIterator[JetStreamTopicAdmin]:
    """A started administration."""
    admin = JetStreamTopicAdmin(JetStreamOptions(servers=nats_server.url))
    await admin.start()
    yield admin
    await admin.stop()


async def test_a_stream_of_others_is_left_as_it_is(
    nats_server: EmbeddedNats, admin: JetStreamTopicAdmin, ask: Ask, connect: Connect, topic: str
) -> None:
    """What differs there cannot be done from here, and says in which stream; the group is begun in it."""
    name = topic.partition(".")[2]
    await ask(nats_server, f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{topic}.>"], "max_age": 10**12})
    need = Need([Topic(f"{topic}.a", retention=_DAY)], [Subscription(f"{topic}.a", "group")])

    done, impossible = await provide(admin, need)

    assert [step.kind for step in done] == ["begin"]
    assert [(step.found, step.wished) for step in impossible] == [(1000, _DAY)]
    assert f"the stream '{name}'" in impossible[0].note
    assert [step.kind for step in await compare(admin, need)] == ["impossible"]
    broker = await connect(nats_server)
    await broker.declare([], need.subscriptions)
    await broker.publish(counted(f"{topic}.b", range(2)) and counted(f"{topic}.a", range(3)))
    consumer = await broker.consume(need.subscriptions[0])
    assert (await progress_when(consumer, lambda progress: progress.lag > 0)).lag == 3
    assert numbers(await take(consumer, 3)) == [0, 1, 2]


async def test_a_shorter_retention_takes_the_duplicate_window_along(
    nats_server: EmbeddedNats, admin: JetStreamTopicAdmin, ask: Ask, topic: str
) -> None:
    """JetStream refuses a window that is longer than messages are kept."""
    await admin.make(Topic(topic))
    await admin.change(Topic(topic, retention=60))
    config = (await ask(nats_server, f"STREAM.INFO.{topic.replace('.', '_')}"))["config"]
    assert (config["max_age"], config["duplicate_window"]) == (60 * 10**9, 60 * 10**9)


async def test_compaction_is_refused_with_the_reason(admin: JetStreamTopicAdmin, topic: str) -> None:
    """A topic is one subject, of which JetStream would keep one message: nothing of the kind is done."""
    need = Need([Topic(topic, compacted=True, retention=_DAY)], [])
    done, (step,) = await provide(admin, need)
    assert [step.kind for step in done] == ["make"]
    assert "the last message of the topic alone" in step.note
    found = (await admin.find([topic]))[topic].topic
    assert (found.compacted, found.retention) == (False, _DAY)


async def test_what_we_may_not_do_is_told_at_once(serve_nats: Serve, tmp_path: Path, topic: str) -> None:
    """A server that does not permit a request does not answer it; the mistake names the subject all the same."""
    config = tmp_path / "server.conf"
    permissions = {"publish": {"deny": ["$JS.API.STREAM.CREATE.>", "$JS.API.CONSUMER.CREATE.>"]}}
    config.write_text(
        json.dumps({"authorization": {"users": [{"user": "a", "password": "b", "permissions": permissions}]}})
    )
    server = serve_nats(arguments=("-c", str(config)))
    admin = JetStreamTopicAdmin(JetStreamOptions(servers=server.url, user="a", password="b"))
    await admin.start()
    assert await admin.find([topic]) == {}
    with pytest.raises(ConfigurationError, match=r"does not permit us to publish to '\$JS\.API\.STREAM\.CREATE"):
        await admin.make(Topic(topic))
    assert await admin.find([topic]) == {}
    await admin.stop()


async def test_a_server_without_jetstream_is_told(serve_nats: Serve, tmp_path: Path, topic: str) -> None:
    """The message says how to enable it."""
    config = tmp_path / "server.conf"
    config.write_text("accounts { PLAIN { users: [{user: a, password: b}] } }")
    server = serve_nats(arguments=("-c", str(config)))
    admin = JetStreamTopicAdmin(JetStreamOptions(servers=server.url, user="a", password="b"))
    await admin.start()
    with pytest.raises((BrokerUnavailable, ConfigurationError), match="JetStream"):
        await admin.find([topic])
    await admin.stop()


async def test_who_may_not_read_a_message_still_tells_the_lag(
    serve_nats: Serve, connect: Connect, tmp_path: Path, topic: str
) -> None:
    """Only the age needs a look at the oldest message."""
    config = tmp_path / "server.conf"
    permissions = {"publish": {"deny": ["$JS.API.STREAM.MSG.GET.>"]}}
    config.write_text(
        json.dumps({"authorization": {"users": [{"user": "a", "password": "b", "permissions": permissions}]}})
    )
    broker = await connect(serve_nats(arguments=("-c", str(config))), user="a", password="b")
    consumer = await open_consumer(broker, topic)
    await broker.publish(counted(topic, range(3)))
    progress = await progress_when(consumer, lambda progress: progress.lag == 3)
    assert (progress.oldest_at, len(progress.shares)) == (None, 1)
    await take(consumer, 3)
    await progress_when(consumer, lambda progress: progress.lag == 0)


def test_the_command_makes_a_server_ready_for_the_shop(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan` ends with 1 before and with 0 after `apply`, which two may run and which then has nothing to do."""
    monkeypatch.setenv("TORPOR_BROKER_URL", nats_server.url)
    monkeypatch.setenv("TORPOR_DATABASE_URL", "memory://")
    shop = str(Path(__file__).parents[2] / "services")
    assert main(["topics", "plan", shop]) == 1
    assert main(["topics", "apply", shop]) == 0
    assert main(["topics", "plan", shop]) == 0
    capsys.readouterr()
    assert main(["topics", "apply", shop, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"broker": "NATS", "done": [], "impossible": []}
