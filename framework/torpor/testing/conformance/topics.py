"""What the administration of a broker's topics must keep. In a test module, with a fixture `topics_backend` that
returns a `TopicsBackend`:

```python
class TestTopics(TopicsConformance): ...


class TestProvision(ProvisionConformance): ...
```
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pytest

from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.kernel.topic import SETTINGS, Topic
from torpor.ports.consumer import Subscription
from torpor.runtime.provision import Need, compare, provide
from torpor.testing.conformance.broker import counted, numbers, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from torpor.ports.broker import Broker
    from torpor.ports.topics import TopicAdmin

_DAY = 86_400
WISHED = {"partitions": 3, "replicas": 1, "retention": 2 * _DAY, "max_bytes": 50_000_000, "compacted": True}
OTHER = {"partitions": 5, "retention": math.inf, "max_bytes": 60_000_000, "compacted": False}


class TopicsBackend(Protocol):
    """What an adapter's test module gives."""

    def admin(self, *, is_reachable: bool = True) -> TopicAdmin:
        """A new administration, not started, of one server with one node, or of none."""
        ...

    def broker(self, wishes: Sequence[Topic] = ()) -> Broker:
        """A broker on the same server, not started, with what is wished of topics that it makes."""
        ...


class TopicsSuite:
    """What the suites share: a started administration, and a broker beside it."""

    @pytest.fixture
    async def admin(self, topics_backend: TopicsBackend) -> AsyncIterator[TopicAdmin]:
        """A started administration, stopped after the test."""
        admin = topics_backend.admin()
        await admin.start()
        yield admin
        await admin.stop()

    @pytest.fixture
    async def broker(self, topics_backend: TopicsBackend) -> AsyncIterator[Broker]:
        """A started broker, stopped after the test."""
        broker = topics_backend.broker()
        await broker.start()
        yield broker
        await broker.stop()

    @pytest.fixture
    def name(self) -> str:
        """A topic that no other test uses."""
        return f"conformance.{uuid4().hex}"


class TopicsConformance(TopicsSuite):
    """Finding, making and changing topics."""

    @pytest.mark.parametrize("setting", SETTINGS)
    async def test_a_topic_is_made_as_it_is_wished(self, admin: TopicAdmin, name: str, setting: str) -> None:
        """Each setting that the broker knows is so, and is found so."""
        if setting not in admin.powers.settings or setting in admin.powers.refused:
            pytest.skip(f"not promised: {setting}")
        assert await admin.find([name]) == {}

        await admin.make(wish(name, setting, WISHED))

        found = (await admin.find([name, f"{name}.other"]))[name].topic
        assert getattr(found, setting) == WISHED[setting]

    @pytest.mark.parametrize("setting", OTHER)
    async def test_a_setting_is_changed_and_the_others_stay(self, admin: TopicAdmin, name: str, setting: str) -> None:
        """What is said becomes so, and what is not said stays as it was."""
        if setting not in admin.powers.settings or {setting} & {*admin.powers.refused, *admin.powers.fixed}:
            pytest.skip(f"not promised: {setting}")
        able = {key: value for key, value in WISHED.items() if key not in admin.powers.refused}
        await admin.make(Topic(name, **able))  # type: ignore[arg-type]
        before = (await admin.find([name]))[name].topic.settings()

        await admin.change(wish(name, setting, OTHER))

        after = (await admin.find([name]))[name].topic.settings()
        assert after[setting] == OTHER[setting]
        assert {k: v for k, v in after.items() if k != setting} == {k: v for k, v in before.items() if k != setting}

    async def test_a_topic_that_exists_stays_as_it_is(self, admin: TopicAdmin, broker: Broker, name: str) -> None:
        """Neither making it anew nor a service that declares it changes it."""
        await admin.make(Topic(name, retention=_DAY))
        await admin.make(Topic(name, retention=2 * _DAY))
        await broker.declare([name], [Subscription(name, "group")])
        assert (await admin.find([name]))[name].topic.retention == _DAY

    async def test_a_service_makes_what_is_missing_as_it_is_wished(
        self, admin: TopicAdmin, topics_backend: TopicsBackend, name: str
    ) -> None:
        """A topic that nobody made before the service starts is made as the service wishes it."""
        broker = topics_backend.broker([Topic(name, retention=3 * _DAY)])
        await broker.start()
        await broker.declare([name], [])
        await broker.stop()
        assert (await admin.find([name]))[name].topic.retention == 3 * _DAY

    async def test_names_that_cannot_be_are_told_together(self, admin: TopicAdmin) -> None:
        """All of them at once."""
        with pytest.raises(ConfigurationError) as caught:
            await admin.find(["a b", "sound", "c d"])
        assert len(caught.value.problems) == 2

    async def test_a_broker_that_is_away_is_told(self, topics_backend: TopicsBackend) -> None:
        """Starting raises BrokerUnavailable with the address, and stopping then does no harm."""
        admin = topics_backend.admin(is_reachable=False)
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1"):
            await admin.start()
        await admin.stop()
        await admin.stop()


class ProvisionConformance(TopicsSuite):
    """Beginning groups, and doing all that is needed at once."""

    async def test_a_group_begins_once(self, admin: TopicAdmin, broker: Broker, name: str) -> None:
        """A group that was begun is missing no more, is given what is published from then on, and keeps its place
        when it is begun again."""
        early, late = Subscription(name, "early"), Subscription(name, "late", is_shared=True)
        await admin.make(Topic(name))
        assert [*await admin.missing([early, late])] == [early, late]

        await admin.begin([early])
        assert [*await admin.missing([early, late])] == [late]
        await broker.declare([name], [])
        await broker.publish(counted(name, range(3)))
        await broker.declare([], [early])
        consumer = await broker.consume(early)
        assert numbers(await take(consumer, 2)) == [0, 1]
        await consumer.stop()
        await broker.stop()

        await admin.begin([early, late])
        assert [*await admin.missing([early, late])] == []
        await broker.start()
        await broker.declare([name], [early])
        assert numbers(await take(await broker.consume(early), 1)) == [2]

    async def test_all_that_is_needed_is_provided(self, admin: TopicAdmin, name: str) -> None:
        """What differs is done, nothing differs then, and doing it again does nothing."""
        need = Need([Topic(name, retention=_DAY)], [Subscription(name, "a"), Subscription(name, "b")])
        assert [step.kind for step in await compare(admin, need)] == ["make", "begin", "begin"]
        done, impossible = await provide(admin, need)
        assert ([step.kind for step in done], impossible) == (["make", "begin", "begin"], [])
        assert await compare(admin, need) == []
        assert await provide(admin, need) == ([], [])

        need = Need([Topic(name, retention=2 * _DAY)], need.subscriptions)
        (step,) = await compare(admin, need)
        assert (step.kind, step.setting, step.found, step.wished) == ("change", "retention", _DAY, 2 * _DAY)
        await provide(admin, need)
        assert await compare(admin, need) == []

    async def test_two_may_do_it_at_once(self, topics_backend: TopicsBackend, name: str) -> None:
        """Two deploys at the same moment both succeed, and leave what each alone would have left."""
        names = [f"{name}.{number}" for number in range(4)]
        wishes = [Topic(one, partitions=4, retention=_DAY) for one in names]
        need = Need(wishes, [Subscription(one, "group") for one in names])
        admins = [topics_backend.admin() for _ in range(2)]
        for admin in admins:
            await admin.start()
        await asyncio.gather(*(provide(admin, need) for admin in admins))
        more = Need([Topic(one, partitions=6, retention=2 * _DAY) for one in names], need.subscriptions)
        await asyncio.gather(*(provide(admin, more) for admin in admins))
        assert await compare(admins[0], more) == []
        for admin in admins:
            await admin.stop()

    async def test_what_the_broker_refuses_is_told_with_its_reason(self, admin: TopicAdmin, name: str) -> None:
        """More replicas than there are nodes are a mistake, told with the topic; the other topics are made."""
        need = Need([Topic(name, replicas=5), Topic(f"{name}.sound")], [])
        with pytest.raises(ConfigurationError) as caught:
            await provide(admin, need)
        assert len(caught.value.problems) == 1
        assert repr(name) in caught.value.problems[0]
        assert [*await admin.find([topic.name for topic in need.topics])] == [f"{name}.sound"]


def wish(name: str, setting: str, values: Mapping[str, float]) -> Topic:
    """A topic of which one setting is wished."""
    return Topic(name, **{setting: values[setting]})  # type: ignore[arg-type]
