"""Settings come from the environment, typed, and are checked together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "TORPOR_"
_OTHERS = frozenset({"TORPOR_DEBUG", "TORPOR_TEST_STRICT"})
_BROKERS = ("nats", "tls", "kafka", "memory")
_DATABASES = ("postgresql", "sqlite", "memory")
_PORT = 8000
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = ("json", "console")
PULL, PUSH = "pull", "push"
MEMORY, BROKER, DATABASE = "memory", "broker", "database"  # where the replicas share what they share
REPLAY_SECONDS = 86_400.0  # for a broker that has lost what it acknowledged
STUCK_SECONDS = 300.0


class Settings:
    """What the environment says. `Settings.read(os.environ)` tells every mistake at once."""

    __slots__ = (
        "body_limit",
        "broker_url",
        "database_url",
        "delivery",
        "drain_seconds",
        "http_host",
        "http_port",
        "log_format",
        "log_level",
        "push_audience",
        "push_issuer",
        "push_origins",
        "replay_seconds",
        "shared",
        "stuck_seconds",
    )

    broker_url: str | None
    database_url: str | None
    delivery: str
    http_host: str
    http_port: int
    body_limit: int
    drain_seconds: float
    log_level: str
    log_format: str
    push_audience: str | None
    push_issuer: str | None
    push_origins: frozenset[str]
    replay_seconds: float
    shared: str
    stuck_seconds: float

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the variables that start with `TORPOR_`; raises ConfigurationError for wrong and unknown ones."""
        reader = _Reader(environ)
        settings = cls()
        settings.broker_url = reader.url("BROKER_URL", _BROKERS)
        settings.database_url = reader.url("DATABASE_URL", _DATABASES)
        settings.delivery = reader.choice("DELIVERY", PULL, (PULL, PUSH))
        settings.shared = reader.choice("SHARED", MEMORY, (MEMORY, BROKER, DATABASE))
        settings.push_issuer, settings.push_audience = reader.both("PUSH_ISSUER", "PUSH_AUDIENCE")
        settings.push_origins = frozenset(reader.text("PUSH_ORIGINS", "").replace(",", " ").split())
        settings.http_host = reader.text("HTTP_HOST", "127.0.0.1")
        settings.http_port = int(reader.number("HTTP_PORT", reader.port(), low=0, high=65535))
        settings.body_limit = int(reader.number("HTTP_BODY_LIMIT", 1_048_576, low=1, high=2**40))
        settings.drain_seconds = reader.number("DRAIN_SECONDS", 25, low=0, high=3600)
        settings.log_level = reader.choice("LOG_LEVEL", "INFO", _LEVELS)
        settings.log_format = reader.choice("LOG_FORMAT", "json", _FORMATS)
        settings.replay_seconds = reader.number("REPLAY_SECONDS", REPLAY_SECONDS, low=0, high=2**31)
        settings.stuck_seconds = reader.number("STUCK_SECONDS", STUCK_SECONDS, low=0, high=2**31)
        reader.finish()
        return settings

    @property
    def is_push(self) -> bool:
        """Whether messages come as requests, and nothing is consumed."""
        return self.delivery == PUSH

    def __repr__(self) -> str:
        return f"<Settings broker={without_secrets(self.broker_url)} database={without_secrets(self.database_url)}>"


def given_in(environ: Mapping[str, str]) -> list[str]:
    """The variables that are settings of a service, or are meant to be."""
    return sorted(name for name in environ if name.startswith(_PREFIX) and name not in _OTHERS)


def find_url(environ: Mapping[str, str], name: str) -> str | None:
    """The URL of a variable, or in the file that `<name>_FILE` names: a secret that a container mounts.

    Raises ConfigurationError.
    """
    url, file = environ.get(name), environ.get(f"{name}_FILE")
    if not file:
        return url or None
    if url:
        raise ConfigurationError([f"{name} and {name}_FILE are both set. Set one of them."])
    from pathlib import Path

    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        told = f"{name}_FILE is {file!r}, which cannot be read: {error}. Expected a text file that holds it."
        raise ConfigurationError([told]) from error
    if not text:
        raise ConfigurationError([f"{name}_FILE is {file!r}, which is empty. Expected a text file that holds it."])
    return text


def without_secrets(url: str | None) -> str | None:
    """A URL as it may be shown, or several with commas: without user and password."""
    if url is None:
        return None
    return ",".join(_without_secrets(part) for part in re.split(r",(?=\s*\w+://)", url))


def _without_secrets(url: str) -> str:
    """Nothing before the last '@' is shown, and of a URL whose parts are not clear only the scheme."""
    scheme, mark, rest = url.rpartition("://")
    head, _, query = rest.partition("?")
    if "@" in query:  # in a password, before the host, or in an option
        return f"{scheme}{mark}…"
    place = head.rpartition("@")[2]
    host, colon, port = place.partition("/")[0].rpartition(":")
    if colon and not port.isdigit() and not port.endswith("]"):  # a password that lost its host
        return f"{scheme}{mark}{host}:…"
    return f"{scheme}{mark}{place}"


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

    def both(self, one: str, other: str) -> tuple[str | None, str | None]:
        """Two texts that mean something only together."""
        first, second = self._value(one) or None, self._value(other) or None
        if bool(first) != bool(second):
            missing = other if first else one
            self._problems.append(f"{_PREFIX}{missing} is not set. Set it too, or neither of the two.")
        return first, second

    def port(self) -> int:
        """The port that the platform gives, or ours."""
        given = self._environ.get("PORT", "")
        return int(given) if given.isdecimal() else _PORT

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self._value(name) or default
        found = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if found is None:
            self._problems.append(f"{_PREFIX}{name} is {text!r}. Expected one of {', '.join(choices)}.")
        return found or default

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        self._known |= {_PREFIX + name, f"{_PREFIX}{name}_FILE"}
        try:
            text = find_url(self._environ, _PREFIX + name)
        except ConfigurationError as error:
            self._problems += error.problems
            return None
        if text is None:
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
