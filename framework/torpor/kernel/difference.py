"""The difference between the topics that are wished and those that a broker has, as steps: a pure rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torpor.kernel.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torpor.kernel.topic import Setting, TopicPowers, TopicState

_MOVES = "keys move to other partitions, so the order of each across that moment is not kept"
_FEWER = "{broker} takes no partitions away. Make a new topic, or wish for {found} or more"
_OLDER = "what is older than {wished} is deleted"
_LARGER = "the oldest of what is more is deleted"
_EARLIER = "all but the last message of each key are deleted"


class Step:
    """One thing that differs. Without a setting it is the topic or the group itself that is missing. `note` tells what
    the step entails, or why it cannot be taken. `deletes` is set when it takes messages away."""

    __slots__ = ("deletes", "found", "group", "is_possible", "note", "setting", "topic", "wished")

    def __init__(
        self,
        topic: Topic,
        *,
        group: str | None = None,
        setting: str | None = None,
        found: Setting | None = None,
        note: str = "",
        is_possible: bool = True,
        deletes: bool = False,
    ) -> None:
        self.topic = topic
        self.group = group
        self.setting = setting
        self.found = found
        self.wished: Setting | None = None if setting is None else getattr(topic, setting)
        self.note = note
        self.is_possible = is_possible
        self.deletes = deletes

    @property
    def kind(self) -> str:
        """What is to be done: make a topic, change one, or begin a group; or what cannot be."""
        if not self.is_possible:
            return "impossible"
        if self.group is not None:
            return "begin"
        return "make" if self.setting is None else "change"

    @property
    def place(self) -> tuple[str, str | None, str | None]:
        """What it is about; the same step has the same."""
        return self.topic.name, self.group, self.setting

    def to_dict(self) -> dict[str, Any]:
        """The step as JSON: for ever is the word `forever`."""
        told: dict[str, Any] = {"step": self.kind, "topic": self.topic.name}
        if self.group is not None:
            told["group"] = self.group
        if self.setting is not None:
            told |= {"setting": self.setting, "found": _plain(self.found), "wished": _plain(self.wished)}
        elif self.group is None:
            told["wished"] = {name: _plain(value) for name, value in self.topic.settings().items()}
        return told | ({"note": self.note} if self.note else {}) | ({"deletes": True} if self.deletes else {})

    def __repr__(self) -> str:
        what = f" group={self.group}" if self.group else f" {self.setting}" if self.setting else ""
        return f"<Step {self.kind} {self.topic.name}{what}>"


def differences(wishes: Sequence[Topic], found: Mapping[str, TopicState], powers: TopicPowers) -> list[Step]:
    """What is to be done so that the topics are as they are wished, and what of it cannot be done."""
    return [step for wish in wishes for step in _of_one(wish, found.get(wish.name), powers)]


def unheeded(wishes: Sequence[Topic], powers: TopicPowers) -> list[str]:
    """What is wished and means nothing to a broker, as sentences."""
    return [
        f"{wish.name}: {name}={value!r} means nothing on {powers.broker}."
        for wish in wishes
        for name, value in wish.settings().items()
        if name not in powers.settings
    ]


def _of_one(wish: Topic, state: TopicState | None, powers: TopicPowers) -> Iterator[Step]:
    if state is None:
        able = {
            name: value
            for name, value in wish.settings().items()
            if name in powers.settings and not (value and name in powers.refused)
        }
        yield Step(Topic(wish.name, **able))  # type: ignore[arg-type]  # settings of a topic
    for name, wished in wish.settings().items():
        if name not in powers.settings:
            continue
        if wished and name in powers.refused:  # `compacted=False` is no wish that it cannot fulfil
            yield Step(wish, setting=name, note=powers.refused[name], is_possible=False)
        elif state is not None and (found := getattr(state.topic, name)) != wished:
            yield _change(wish, name, found=found, state=state, powers=powers)


def _change(wish: Topic, name: str, *, found: Any, state: TopicState, powers: TopicPowers) -> Step:
    """How an existing topic comes to a wished setting."""
    wished = getattr(wish, name)
    refusal = None
    if state.holder is not None:
        refusal = f"it is kept in {state.holder}, which Torpor did not make. Change it there, or drop the wish"
    elif name in powers.fixed:
        refusal = powers.fixed[name]
    elif name == "partitions" and found is not None and wished < found:
        refusal = _FEWER.format(broker=powers.broker, found=found)
    if refusal is not None:
        return Step(wish, setting=name, found=found, note=refusal, is_possible=False)
    note = _loss(name, found, wished)
    if name == "partitions":
        return Step(wish, setting=name, found=found, note=_MOVES)
    return Step(wish, setting=name, found=found, note=note, deletes=bool(note))


def _loss(name: str, found: Any, wished: Any) -> str:
    """What is lost when a setting changes."""
    if name == "compacted":
        return _EARLIER if wished else ""
    if name == "retention" and wished < (math.inf if found is None else found):
        return _OLDER.format(wished=shown(name, wished))
    if name == "max_bytes" and wished < (math.inf if found is None else found):
        return _LARGER
    return ""


def shown(name: str, value: Any) -> str:
    """A setting as a person reads it."""
    if value is None:
        return "unlimited"
    if name == "retention":
        if value == math.inf:
            return "for ever"
        for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if value >= seconds and value % seconds == 0:
                return f"{value // seconds:g}{unit}"
        return f"{value:g}s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}"


def _plain(value: Any) -> Any:
    return "forever" if value == math.inf else value
