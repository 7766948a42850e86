"""Topics as values: what an application wishes of one, how a broker has it, and what a broker can do about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = ("partitions", "replicas", "retention", "max_bytes", "compacted")
_MOST_PARTITIONS = 100_000
_MOST_REPLICAS = 99
_LONGEST = 100 * 365 * 86_400.0  # seconds; longer is `math.inf`

Setting = int | float | bool


class Topic:
    """What is wished of a topic. What is not said is the broker's to choose, and stays as it is.

    ```python
    orders = Service("orders", topics=[Topic("orders.placed", partitions=12, retention=30 * 86_400)])
    ```

    `retention` is how many seconds messages are kept, and `math.inf` is for ever. `max_bytes` is how much is kept, on
    Kafka of each partition. A `compacted` topic keeps the last message of each key, and forgets the earlier ones.
    `torpor topics plan` tells what the broker has otherwise, and `torpor topics apply` changes it.
    """

    __slots__ = ("compacted", "max_bytes", "name", "partitions", "replicas", "retention")

    def __init__(
        self,
        name: str,
        *,
        partitions: int | None = None,
        replicas: int | None = None,
        retention: float | None = None,
        max_bytes: int | None = None,
        compacted: bool | None = None,
    ) -> None:
        problems = [
            *_name(name),
            *_whole(name, "partitions", partitions, most=_MOST_PARTITIONS),
            *_whole(name, "replicas", replicas, most=_MOST_REPLICAS),
            *_whole(name, "max_bytes", max_bytes, most=2**62),
        ]
        if not (retention is None or _is_time(retention)):
            problems.append(f"Topic({name!r}, retention={retention!r}): expected whole seconds, or math.inf.")
        if compacted not in (None, True, False):
            problems.append(f"Topic({name!r}, compacted={compacted!r}): expected True or False.")
        if problems:
            raise ConfigurationError(problems)
        self.name = name
        self.partitions = partitions
        self.replicas = replicas
        self.retention = retention
        self.max_bytes = max_bytes
        self.compacted = compacted

    def settings(self) -> dict[str, Setting]:
        """What is said."""
        return {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}

    def __repr__(self) -> str:
        said = "".join(f", {name}={value!r}" for name, value in self.settings().items())
        return f"Topic({self.name!r}{said})"


class TopicState:
    """A topic as a broker has it: every setting that the broker knows is said. `holder` is set when it is kept in
    something that Torpor has not made, and that is therefore left as it is."""

    __slots__ = ("holder", "topic")

    def __init__(self, topic: Topic, *, holder: str | None = None) -> None:
        self.topic = topic
        self.holder = holder

    def __repr__(self) -> str:
        return f"<TopicState {self.topic!r}{f' in {self.holder}' if self.holder else ''}>"


class TopicPowers:
    """What a broker can do with topics. `settings` are those that mean something there; the others say nothing of it.
    `refused` are wishes that it cannot fulfil, and `fixed` are settings of an existing topic that cannot be changed
    from here; both with the reason and with what to do."""

    __slots__ = ("broker", "fixed", "refused", "settings")

    def __init__(
        self,
        broker: str,
        *,
        settings: frozenset[str],
        refused: Mapping[str, str] | None = None,
        fixed: Mapping[str, str] | None = None,
    ) -> None:
        self.broker = broker
        self.settings = settings
        self.refused = refused or {}
        self.fixed = fixed or {}

    def __repr__(self) -> str:
        return f"<TopicPowers of {self.broker}>"


def _name(name: object) -> list[str]:
    return [] if isinstance(name, str) and name else [f"Topic({name!r}): expected the topic's name."]


def _whole(name: str, setting: str, value: object, *, most: int) -> list[str]:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        return []
    return [f"Topic({name!r}, {setting}={value!r}): expected a whole number from 1 to {most:,}."]


def _is_time(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (value == math.inf or (1 <= value <= _LONGEST and value % 1 == 0))  # type: ignore[operator]
