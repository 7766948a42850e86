"""The address of a database: what to connect to, and how it may be told."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from torpor.kernel.errors import ConfigurationError

_SCHEMES = ("postgresql", "postgres")


class Address:
    """A DSN, and the place in it without its credentials."""

    __slots__ = ("dsn", "place")

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.place = _place(dsn)

    def __repr__(self) -> str:
        return f"<Address {self.place}>"


def _place(dsn: str) -> str:
    scheme, separator, _ = dsn.partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = f"{scheme}://…" if separator else "an address without a scheme"
        raise ConfigurationError([f"{shown} is no database of PostgreSQL: expected postgresql://user@host:5432/name."])
    try:
        parts = urlsplit(dsn)
    except ValueError as error:
        raise _unreadable() from error
    if "@" not in parts.netloc and "@" in dsn:
        raise _unreadable()  # what looks like the host is a part of the password
    asked = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or asked.get("host", ["localhost"])[0]
    if not host.startswith("/") and not host.rpartition("]")[2].count(":"):
        host = f"{host}:{asked.get('port', ['5432'])[0]}"
    return f"{host}{parts.path}"


def _unreadable() -> ConfigurationError:
    problem = (
        "The address of PostgreSQL cannot be read: expected postgresql://user@host:5432/name. Write the characters "
        "/ ? # @ [ ] of a user or password as %2F %3F %23 %40 %5B %5D."
    )
    return ConfigurationError([problem])
