"""Provision: the topics and groups that an application needs of a broker, compared and made so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.difference import Step, differences
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.order import Order
from torpor.kernel.topic import Topic
from torpor.ports.consumer import Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.ports.topics import TopicAdmin
    from torpor.runtime.plan import Plan, SubscriberBinding

_ROUNDS = 4  # in which another one that does the same at this moment may be in the way


class Need:
    """What services need of a broker: topics with what is wished of them, and groups."""

    __slots__ = ("subscriptions", "topics")

    def __init__(self, topics: Sequence[Topic], subscriptions: Sequence[Subscription]) -> None:
        self.topics = tuple(topics)
        self.subscriptions = tuple(subscriptions)

    def __repr__(self) -> str:
        return f"<Need topics={len(self.topics)} groups={len(self.subscriptions)}>"


def need_of(plans: Sequence[Plan], more: Sequence[str] = ()) -> Need:
    """What services need that are deployed together, and these topics besides."""
    wishes = {wish.name: wish for plan in plans for wish in plan.service.topics}
    names = sorted({*more, *(topic for plan in plans for topic in plan.topics)})
    bindings = [binding for plan in plans for binding in plan.subscribers]
    return Need([wishes.get(name) or Topic(name) for name in names], [subscription_of(b) for b in bindings])


def subscription_of(binding: SubscriberBinding) -> Subscription:
    """A binding's group and topic."""
    return Subscription(binding.topic, binding.group, is_shared=binding.policies.order is Order.NONE)


async def compare(admin: TopicAdmin, need: Need) -> list[Step]:
    """What differs from what is needed: topics first, then groups. Changes nothing."""
    found = await admin.find([topic.name for topic in need.topics])
    topics = {topic.name: topic for topic in need.topics}
    there = [subscription for subscription in need.subscriptions if subscription.topic in found]
    missing = {id(subscription) for subscription in await admin.missing(there)}
    begins = [
        Step(topics[subscription.topic], group=subscription.group)
        for subscription in need.subscriptions
        if subscription.topic not in found or id(subscription) in missing
    ]
    return [*differences(need.topics, found, admin.powers), *begins]


async def provide(admin: TopicAdmin, need: Need) -> tuple[list[Step], list[Step]]:
    """Makes it so; returns what was done, and what cannot be done. Repeatable, and two may do it at once: what differs
    is looked at again after each round. Raises ConfigurationError with all that the broker refuses."""
    done: dict[tuple[str, str | None, str | None], Step] = {}
    refusals: list[str] = []
    steps = await compare(admin, need)
    for _ in range(_ROUNDS):
        taken, refusals = await _take(admin, need, steps)
        done |= {step.place: step for step in taken}
        steps = await compare(admin, need)
        if not taken:
            break
    if left := [step for step in steps if step.is_possible]:
        raise ConfigurationError(refusals or [f"{step!r} was done, and is not seen. Try again." for step in left])
    return list(done.values()), steps


async def _take(admin: TopicAdmin, need: Need, steps: Sequence[Step]) -> tuple[list[Step], list[str]]:
    """Takes the steps that are possible; returns those that were taken, and what was refused."""
    taken: list[Step] = []
    refusals: list[str] = []
    for topic in need.topics:
        own = [step for step in steps if step.topic.name == topic.name]
        due = [step for step in own if step.is_possible]
        blocked = {step.setting for step in own if not step.is_possible}
        said = {name: value for name, value in topic.settings().items() if name not in blocked}
        try:
            await _take_one(admin, Topic(topic.name, **said), due, need)  # type: ignore[arg-type]  # a topic's settings
        except ConfigurationError as error:
            refusals += error.problems
        else:
            taken += due
    return taken, refusals


async def _take_one(admin: TopicAdmin, topic: Topic, steps: Sequence[Step], need: Need) -> None:
    kinds = {step.kind for step in steps}
    if "make" in kinds:
        await admin.make(topic)
    if "change" in kinds:
        await admin.change(topic)
    begun = {step.group for step in steps if step.kind == "begin"}
    if begun:
        await admin.begin([sub for sub in need.subscriptions if sub.topic == topic.name and sub.group in begun])
