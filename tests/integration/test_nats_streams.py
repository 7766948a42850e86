"""NATS as it is configured: streams and durables that exist, limits, permissions, and mistakes told in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.ports.consumer import Subscription
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take, take_until_sentinel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from torpor.adapters.nats.broker import JetStreamBroker
    from torpor.adapters.nats.embedded import EmbeddedNats

    Serve = Callable[..., EmbeddedNats]
    Connect = Callable[..., Awaitable[JetStreamBroker]]
    Ask = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def broker(nats_server: EmbeddedNats, connect: Connect) -> JetStreamBroker:
    """A started broker."""
    return await connect(nats_server)


async def test_the_size_limit_counts_headers(broker: JetStreamBroker, topic: str) -> None:
    """The largest message that fits is taken; one byte more is refused here, so that the server need not hang up."""
    consumer = await open_consumer(broker, topic)
    (message,) = counted(topic, [0])
    size = 1_048_576
    message.data = bytes(size)
    refusal = (await broker.publish([message]))[0]
    excess = int(str(refusal).partition("> is ")[2].partition(" ")[0]) - size
    assert "takes at most 1048576" in str(refusal)

    message.data = bytes(size - excess + 1)
    assert list(await broker.publish([message])) == [0]
    message.data = bytes(size - excess)
    assert await broker.publish([message]) == {}
    assert len((await take(consumer, 1))[0].message.data) == size - excess


async def test_what_is_refused_for_ever_is_told_so(broker: JetStreamBroker, topic: str) -> None:
    """Topics that nobody declared, or that cannot be subjects, are refused with advice."""
    messages = [*counted(topic, [0]), *counted("with space", [1]), *counted("$JS.API.x", [2])]

    refusals = await broker.publish(messages)

    assert "Declare its topic first" in str(refusals[0])
    assert "has a space" in str(refusals[1])
    assert "keeps that name" in str(refusals[2])


async def test_what_we_may_not_publish_is_refused(serve_nats: Serve, connect: Connect, tmp_path: Path) -> None:
    """A subject that the server's permissions deny is refused at once, and its neighbours are published."""
    config = tmp_path / "server.conf"
    config.write_text('authorization { users: [{user: a, password: b, permissions: {publish: {deny: ["Secret.>"]}}}] }')
    broker = await connect(serve_nats(arguments=("-c", str(config))), user="a", password="b")
    await broker.declare(["Secret.x", "open"], [])

    refusals = await broker.publish([*counted("open", [0]), *counted("Secret.x", [1, 2]), *counted("open", [3])])

    assert sorted(refusals) == [1, 2]
    assert "does not permit" in str(refusals[1])


async def test_a_consumer_that_may_not_pull_is_unavailable(serve_nats: Serve, connect: Connect, tmp_path: Path) -> None:
    """A fetch that the server's permissions deny raises with the reason, rather than wait for ever."""
    config = tmp_path / "server.conf"
    denied = "$JS.API.CONSUMER.MSG.NEXT.>"
    config.write_text(
        f'authorization {{ users: [{{user: a, password: b, permissions: {{publish: {{deny: "{denied}"}}}}}}] }}'
    )
    broker = await connect(serve_nats(arguments=("-c", str(config))), user="a", password="b")
    consumer = await open_consumer(broker, "t")

    with pytest.raises(BrokerUnavailable, match="not permitted to publish"):
        await consumer.fetch(1)


async def test_a_stream_that_holds_the_topic_already_is_used(
    nats_server: EmbeddedNats, broker: JetStreamBroker, ask: Ask, topic: str
) -> None:
    """Somebody's stream over a wildcard serves its topics, each group of each topic with a durable of its own."""
    name = f"OWN_{uuid4().hex}"
    await ask(nats_server, f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{topic}.>"], "storage": "memory"})
    first, second = await open_consumer(broker, f"{topic}.a"), await open_consumer(broker, f"{topic}.b")

    await broker.publish([*counted(f"{topic}.a", [1]), *counted(f"{topic}.b", [2])])

    assert numbers(await take_until_sentinel(broker, first, f"{topic}.a")) == [1]
    assert numbers(await take_until_sentinel(broker, second, f"{topic}.b")) == [2]
    assert (await ask(nats_server, f"STREAM.INFO.{name}"))["state"]["consumer_count"] == 2


async def test_new_settings_are_applied_to_a_durable_that_exists(
    nats_server: EmbeddedNats, connect: Connect, ask: Ask, topic: str
) -> None:
    """Declaring with other options changes the durable, keeps what else was set there, and loses no message. The
    stream stays as it is: `torpor topics apply` changes it."""
    stream, subscription = topic.replace(".", "_"), Subscription(topic, "group")
    broker = await connect(nats_server, retention=3600.0, max_ack_pending=1000)
    await broker.declare([topic], [subscription])
    await broker.publish(counted(topic, [1, 2]))
    info = await ask(nats_server, f"STREAM.INFO.{stream}")
    await ask(nats_server, f"STREAM.UPDATE.{stream}", {**info["config"], "max_bytes": 10_000_000})
    described = (await ask(nats_server, f"CONSUMER.INFO.{stream}.group"))["config"]
    changed = {**described, "description": "watched"}
    await ask(nats_server, f"CONSUMER.CREATE.{stream}.group.{topic}", {"stream_name": stream, "config": changed})

    await (await connect(nats_server, retention=7200.0, max_ack_pending=1500)).declare([topic], [subscription])

    info = await ask(nats_server, f"STREAM.INFO.{stream}")
    consumer = await ask(nats_server, f"CONSUMER.INFO.{stream}.group")
    assert (info["config"]["max_age"], info["config"]["max_bytes"]) == (3600 * 10**9, 10_000_000)
    assert (info["state"]["messages"], consumer["num_pending"]) == (2, 2)
    assert consumer["config"]["max_ack_pending"] == 1500


async def test_a_durable_that_starts_elsewhere_is_kept(
    nats_server: EmbeddedNats, broker: JetStreamBroker, ask: Ask, topic: str
) -> None:
    """A durable that an operator made with another start keeps it, and gets our limits."""
    stream = topic.replace(".", "_")
    await broker.declare([topic], [])
    await broker.publish(counted(topic, [1]))
    config: dict[str, Any] = {"durable_name": "group", "name": "group", "filter_subject": topic, "max_ack_pending": 7}
    config |= {"ack_policy": "explicit", "deliver_policy": "new"}
    await ask(nats_server, f"CONSUMER.CREATE.{stream}.group.{topic}", {"stream_name": stream, "config": config})

    consumer = await open_consumer(broker, topic)

    assert await take_until_sentinel(broker, consumer, topic) == []
    kept = (await ask(nats_server, f"CONSUMER.INFO.{stream}.group"))["config"]
    assert (kept["deliver_policy"], kept["max_ack_pending"]) == ("new", broker.options.max_ack_pending)


async def test_what_cannot_be_changed_is_told(
    nats_server: EmbeddedNats, broker: JetStreamBroker, ask: Ask, topic: str
) -> None:
    """A stream of another storage, one of our name with other subjects, and a durable that acknowledges otherwise are
    mistakes to fix, told with their names."""
    stream = topic.replace(".", "_")
    taken = {"name": stream, "subjects": [topic], "storage": "memory"}
    await ask(nats_server, f"STREAM.CREATE.{stream}", taken)
    with pytest.raises(ConfigurationError, match=rf"Stream '{stream}' of topic '{topic}' cannot .*storage"):
        await broker.declare([topic], [])

    await ask(nats_server, f"STREAM.UPDATE.{stream}", {**taken, "subjects": ["x" + stream]})
    with pytest.raises(ConfigurationError, match=rf"holds \['x{stream}'\] instead"):
        await broker.declare([topic], [])

    await broker.declare([f"{topic}.b"], [])
    config = {"durable_name": "group", "name": "group", "ack_policy": "none"}
    await ask(nats_server, f"CONSUMER.CREATE.{stream}_b.group", {"stream_name": f"{stream}_b", "config": config})
    with pytest.raises(ConfigurationError, match=r"Consumer 'group' of stream .* is not ours"):
        await broker.declare([], [Subscription(f"{topic}.b", "group")])


async def test_mistakes_in_names_are_told_together(broker: JetStreamBroker) -> None:
    """All topics and groups that cannot be are named at once, before anything is made."""
    with pytest.raises(ConfigurationError) as caught:
        await broker.declare(["a b", "orders.*"], [Subscription("ok", "")])

    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigurationError, match="is not declared"):
        await broker.consume(Subscription("ok", "group"))


async def test_a_server_without_jetstream_is_told(serve_nats: Serve, connect: Connect, tmp_path: Path) -> None:
    """An account that has no JetStream is unavailable, and the message says how to enable it."""
    config = tmp_path / "server.conf"
    config.write_text("accounts { PLAIN { users: [{user: a, password: b}] } }")
    broker = await connect(serve_nats(arguments=("-c", str(config))), user="a", password="b")

    for call in (broker.ping(), broker.declare(["t"], [])):
        with pytest.raises(BrokerUnavailable, match=r"JetStream.*enable"):
            await call
