"""Settings come from the environment, typed, and are checked together."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from torpor.kernel.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "TORPOR_"
_OTHERS = frozenset({"TORPOR_DEBUG", "TORPOR_TEST_STRICT"})
_BROKERS = ("nats", "tls", "kafka", "memory")
_DATABASES = ("postgresql", "sqlite", "memory")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = ("json", "console")
REPLAY_SECONDS = 86_400.0  # for a broker that has lost what it acknowledged


class Settings:
    """What the environment says. `Settings.read(os.environ)` tells every mistake at once."""

    __slots__ = (
        "body_limit",
        "broker_url",
        "database_url",
        "drain_seconds",
        "http_host",
        "http_port",
        "log_format",
        "log_level",
        "replay_seconds",
    )

    broker_url: str | None
    database_url: str | None
    http_host: str
    http_port: int
    body_limit: int
    drain_seconds: float
    log_level: str
    log_format: str
    replay_seconds: float

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the variables that start with `TORPOR_`; raises ConfigurationError for wrong and unknown ones."""
        reader = _Reader(environ)
        settings = cls()
        settings.broker_url = reader.url("BROKER_URL", _BROKERS)
        settings.database_url = reader.url("DATABASE_URL", _DATABASES)
        settings.http_host = reader.text("HTTP_HOST", "127.0.0.1")
        settings.http_port = int(reader.number("HTTP_PORT", 8000, low=0, high=65535))
        settings.body_limit = int(reader.number("HTTP_BODY_LIMIT", 1_048_576, low=1, high=2**40))
        settings.drain_seconds = reader.number("DRAIN_SECONDS", 25, low=0, high=3600)
        settings.log_level = reader.choice("LOG_LEVEL", "INFO", _LEVELS)
        settings.log_format = reader.choice("LOG_FORMAT", "json", _FORMATS)
        settings.replay_seconds = reader.number("REPLAY_SECONDS", REPLAY_SECONDS, low=0, high=2**31)
        reader.finish()
        return settings

    def __repr__(self) -> str:
        return f"<Settings broker={without_secrets(self.broker_url)} database={without_secrets(self.database_url)}>"


def without_secrets(url: str | None) -> str | None:
    """A URL as it may be shown, or several with commas: without user and password."""
    if url is None:
        return None
    return ",".join(_without_secrets(part) for part in url.split(","))


def _without_secrets(url: str) -> str:
    if "://" not in url:
        return url.rpartition("@")[2]
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Reader:
    """Reads variables, and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known = set(_OTHERS)
        self._problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self._value(name) or default

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        text = self._value(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            self._problems.append(f"{_PREFIX}{name} is {text!r}. Expected a number from {low:g} to {high:g}.")
            return default
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self._value(name) or default
        found = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if found is None:
            self._problems.append(f"{_PREFIX}{name} is {text!r}. Expected one of {', '.join(choices)}.")
        return found or default

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        text = self._value(name)
        if not text:
            return None
        scheme, mark, _ = text.partition("://")
        if not mark or scheme not in schemes:
            shown = scheme if mark else "no scheme"
            known = ", ".join(f"{s}://" for s in schemes)
            self._problems.append(f"{_PREFIX}{name} has {shown!r}. Expected a URL that starts with {known}.")
            return None
        return text

    def finish(self) -> None:
        """Raises what was found, unknown names included."""
        for name in sorted(self._environ):
            if name.startswith(_PREFIX) and name not in self._known:
                self._problems.append(f"{name} is no setting of Torpor's.{did_you_mean(name, self._known)}")
        if self._problems:
            raise ConfigurationError(self._problems)

    def _value(self, name: str) -> str | None:
        self._known.add(_PREFIX + name)
        return self._environ.get(_PREFIX + name)
