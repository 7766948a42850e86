"""Times as an operator writes and reads them."""

from __future__ import annotations

import re
import time
from datetime import datetime

from torpor.kernel.errors import ConfigurationError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse(option: str, text: str) -> float:
    """A time: ISO 8601, local unless it says otherwise, or an age such as 2h. Raises ConfigurationError."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return time.time() - float(found[1]) * _SECONDS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise ConfigurationError(
            [f"{option} is {text!r}. Expected a time such as 2026-11-21T09:30, or an age such as 90s, 5m, 2h or 1d."]
        ) from error


def shown(at: float) -> str:
    """A time as a person reads it, and as `parse` takes it."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def aged(seconds: float) -> str:
    """How long something has been, roughly."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
