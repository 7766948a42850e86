"""When a schedule ticks next. All times are seconds since the epoch, UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_MONTHS = {
    name: n
    for n, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_WEEKDAYS = {name: n for n, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_NAMES: dict[str, Mapping[str, int]] = {"month": _MONTHS, "weekday": _WEEKDAYS}
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_HORIZON_DAYS = 366 * 9  # a 29 February that falls on a century can be eight years away


class Every:
    """Ticks at whole multiples of a number of seconds since the epoch, so that replicas agree on each tick."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        if not (math.isfinite(seconds) and seconds > 0):
            raise ConfigurationError([f"every({seconds}) never ticks. Give a positive number of seconds."])
        self.seconds = seconds

    def after(self, time: float) -> float:
        """The first tick later than `time`."""
        return (math.floor(time / self.seconds) + 1) * self.seconds

    def __repr__(self) -> str:
        return f"every {self.seconds:g} s"


class Cron:
    """Ticks by a cron expression of five fields in UTC: lists, ranges, steps, names, `@daily` and its kin."""

    __slots__ = ("_any_day", "_any_weekday", "_days", "_hours", "_minutes", "_months", "_weekdays", "expression")

    def __init__(self, expression: str) -> None:
        self.expression = expression
        fields = _ALIASES.get(expression.strip().lower(), expression).split()
        if len(fields) != len(_FIELDS):
            raise ConfigurationError(
                [f"cron({expression!r}) has {len(fields)} fields. Give five: minute hour day month weekday."]
            )
        sets = [_parsed(text, *field, expression) for text, field in zip(fields, _FIELDS, strict=True)]
        self._minutes, self._hours, self._days, self._months, weekdays = sets
        self._weekdays = {day % 7 for day in weekdays}
        self._any_day = fields[2].startswith("*")
        self._any_weekday = fields[4].startswith("*")
        if self._first_after(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise ConfigurationError([f"cron({expression!r}) names a day that no calendar has."])

    def after(self, time: float) -> float:
        """The first tick later than `time`."""
        moment = self._first_after(datetime.fromtimestamp(time, UTC))
        if moment is None:
            raise ConfigurationError([f"cron({self.expression!r}) has no tick after {time}."])
        return moment.timestamp()

    def _first_after(self, moment: datetime) -> datetime | None:
        start = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for days in range(_HORIZON_DAYS):
            day = start.replace(hour=0, minute=0) + timedelta(days=days)
            if not self._is_on(day):
                continue
            first = (start.hour, start.minute) if days == 0 else (0, 0)
            found = min(((h, m) for h in self._hours for m in self._minutes if (h, m) >= first), default=None)
            if found is not None:
                return day.replace(hour=found[0], minute=found[1])
        return None

    def _is_on(self, day: datetime) -> bool:
        if day.month not in self._months:
            return False
        by_day = day.day in self._days
        by_weekday = (day.weekday() + 1) % 7 in self._weekdays
        if self._any_day or self._any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday  # cron's own rule: two restricted day fields are alternatives

    def __repr__(self) -> str:
        return f"cron {self.expression}"


def _parsed(text: str, field: str, low: int, high: int, expression: str) -> set[int]:
    """The numbers that one field allows."""
    allowed: set[int] = set()
    for part in text.split(","):
        span, _, step_text = part.partition("/")
        first_text, dash, last_text = span.partition("-")
        try:
            step = int(step_text) if step_text else 1
            if span == "*":
                first, last = low, high
            else:
                first = _number(first_text, field)
                last = _number(last_text, field) if dash else (high if step_text else first)
        except ValueError as error:
            raise ConfigurationError([f"cron({expression!r}): {part!r} is no {field}."]) from error
        if field == "weekday" and dash and last == 0:
            last = 7  # a range that ends on Sunday
        if step < 1 or not low <= first <= last <= high:
            raise ConfigurationError([f"cron({expression!r}): {part!r} is outside the {field}'s {low} to {high}."])
        allowed.update(range(first, last + 1, step))
    return allowed


def _number(text: str, field: str) -> int:
    names = _NAMES.get(field, {})
    return names[text.lower()] if text.lower() in names else int(text)
