"""Versions of routes that a header chooses between: which handler of a path answers whom. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VERSION = re.compile(r"v?[0-9]+([.-][0-9]+)*")
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER = re.compile(r"{\w+(:\w+)?}")
UNKNOWN, ABSENT = 400, 404


class Versioned:
    """Says of routes which version of an API they are: several may have one path, and a header of the request chooses.

    ```python
    winter = Router(rules=[Versioned("2026-01-31")])
    summer = Router(rules=[Versioned("2026-07-31")])
    ```

    A version is a date or a number, such as `2` or `1.10`. A route answers its version and the later ones, up to one
    that has a handler of its own for the path, or to `until`, from which it is gone. A request without the header gets
    the version with `default=True`, or else the oldest that the path has.
    """

    __slots__ = ("default", "header", "place", "until", "version")

    def __init__(
        self, version: str, *, header: str = "API-Version", default: bool = False, until: str | None = None
    ) -> None:
        problems = [
            f"Versioned has the version {one!r}. Expected a date or a number, such as 2026-01-31, 2 or 1.10."
            for one in (version, until)
            if one is not None and not _VERSION.fullmatch(one)
        ]
        if not _HEADER.fullmatch(header):
            problems.append(f"Versioned(header={header!r}): expected the name of a header, such as API-Version.")
        if not problems and until is not None and place_of(until) <= place_of(version):
            problems.append(f"Versioned({version!r}, until={until!r}) ends before it begins. Give a later version.")
        if problems:
            raise ConfigurationError(problems)
        self.version = version
        self.header = header
        self.default = default
        self.until = until
        self.place = place_of(version)

    def answers(self, place: tuple[int, ...]) -> bool:
        """Whether it may answer a version, unless another comes between."""
        return self.place <= place and (self.until is None or place < place_of(self.until))

    def __repr__(self) -> str:
        until = "" if self.until is None else f", until={self.until!r}"
        return f"Versioned({self.version!r}{until})"


class NotVersioned(Exception):
    """No handler answers the version that a request asks for. It is answered with `status`."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


class Lineup:
    """The handlers of one path, told apart by their versions. `known` are all versions of the service."""

    __slots__ = ("_default", "_handlers", "_known", "header", "versions")

    def __init__(self, handlers: Sequence[Versioned], known: Iterable[Versioned]) -> None:
        found = list(known)
        self.header = handlers[0].header
        self.versions = sorted({one.version for one in found}, key=place_of)
        self._known = {version: place_of(version) for version in self.versions}
        self._default = next((one.version for one in found if one.default), None)
        self._handlers = tuple(handlers)

    def choose(self, said: str | None) -> tuple[int, str]:
        """The place of the handler among those that were given, and the version by which it answers.

        Raises NotVersioned.
        """
        if said is None:
            try:
                return self._choose(self._default or self._oldest.version)
            except NotVersioned:  # the path is younger than the default, or gone in it
                return self._choose(self._oldest.version)
        if said not in self._known:
            told = f"There is no version {said[:40]!r}. {self.header} may be: {', '.join(self.versions)}."
            raise NotVersioned(UNKNOWN, told)
        return self._choose(said)

    def _choose(self, version: str) -> tuple[int, str]:
        place = self._known[version]
        able = [number for number, handler in enumerate(self._handlers) if handler.answers(place)]
        if not able:
            raise NotVersioned(ABSENT, f"This is not there in version {version}. {self._told}")
        return max(able, key=lambda number: self._handlers[number].place), version

    @property
    def _oldest(self) -> Versioned:
        return min(self._handlers, key=lambda handler: handler.place)

    @property
    def _told(self) -> str:
        there = [version for version, place in self._known.items() if any(one.answers(place) for one in self._handlers)]
        return f"{self.header} may be: {', '.join(there)}."


def place_of(version: str) -> tuple[int, ...]:
    """Where a version stands among others."""
    return tuple(int(number) for number in re.split(r"[.-]", version.removeprefix("v")))


def shape_of(path: str) -> str:
    """A path without the names of its parameters: two that differ by these alone are one."""
    return _PARAMETER.sub(r"{\1}", path)


def version_problems(routes: Iterable[tuple[str, str, Versioned | None]]) -> list[str]:
    """What is wrong with the versions of a service's routes, each with the handler, the method and path, and its
    version."""
    found: list[str] = []
    paths: dict[str, tuple[str, Versioned | None]] = {}
    taken: dict[tuple[str, tuple[int, ...]], str] = {}
    defaults: dict[str, Versioned] = {}
    for handler, path, version in routes:
        other, another = paths.setdefault(path, (handler, version))
        if version is None or another is None:
            if version is not another:
                plain, named = (handler, other) if version is None else (other, handler)
                found.append(f"{named} answers {path} in a version, and {plain} in none. Give both a Versioned(...).")
            continue
        default = defaults.setdefault(version.header.lower(), version) if version.default else version
        if version.default and default.version != version.version:
            found.append(
                f"{handler} is of {version!r} by default, and others of {default!r}. One version is the default."
            )
        if version.header.lower() != another.header.lower():
            found.append(
                f"{handler} answers {path} by {version.header}, and {other} by {another.header}. Choose by one header."
            )
        first = taken.setdefault((path, version.place), handler)
        if first != handler:
            found.append(
                f"{handler} answers {path} in {version!r}, and so does {first}. Remove one, or give it another."
            )
    return found
