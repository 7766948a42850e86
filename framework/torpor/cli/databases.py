"""Opens the services' databases for an operator: those of the environment, or those that `torpor dev` left."""

from __future__ import annotations

import asyncio
import glob
import os
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from torpor.ports.store import Store
    from torpor.runtime.service import Service

T = TypeVar("T")

_SQLITE = "sqlite:///"
_MARK = "{service}"


class Database:
    """A service and the URL of its database."""

    __slots__ = ("service", "url")

    def __init__(self, service: str, url: str) -> None:
        self.service = service
        self.url = url

    def __repr__(self) -> str:
        return f"<Database of {self.service}>"


def find_databases(
    services: Sequence[str] | None, data: Path, environ: Mapping[str, str] = os.environ
) -> list[Database]:
    """The databases of the named services, or of all that can be found without a name."""
    from torpor.runtime.settings import find_url

    url = find_url(environ, "TORPOR_DATABASE_URL") or _left_in(data)
    if services is None:
        return _found(url)
    return [Database(service, url) for service in services]


def with_stores(databases: Sequence[Database], work: Callable[[Mapping[str, Store]], Awaitable[T]]) -> T:
    """Runs some work on the databases, by service, each opened before and closed after."""
    return asyncio.run(_with_stores(databases, work))


def migrate(services: Sequence[Service], environ: Mapping[str, str] = os.environ) -> dict[str, Sequence[str]]:
    """Brings the services' databases up to date; returns what was applied to each."""
    from torpor.assembly import plans_of
    from torpor.runtime.settings import Settings

    url = Settings.read(environ).database_url
    if url is None:
        raise ConfigurationError(
            ["TORPOR_DATABASE_URL is not set. Set it to the databases to migrate, such as sqlite:////data/{service}.db"]
        )
    databases = [Database(plan.name, url) for plan in plans_of(services)]
    return asyncio.run(_migrated(databases, {service.name: service.migrations() for service in services}))


async def _migrated(
    databases: Sequence[Database], migrations: Mapping[str, Mapping[str, str]]
) -> dict[str, Sequence[str]]:
    from torpor.assembly import open_store

    stores = {database.service: open_store(database.url, database.service) for database in databases}
    return {service: await store.migrate(migrations[service]) for service, store in stores.items()}


async def _with_stores(databases: Sequence[Database], work: Callable[[Mapping[str, Store]], Awaitable[T]]) -> T:
    from torpor.assembly import open_store

    stores = {database.service: open_store(database.url, database.service) for database in databases}
    try:
        for store in stores.values():
            await store.start()
        return await work(stores)
    finally:
        for store in stores.values():
            await store.stop()


def _left_in(data: Path) -> str:
    if not any(data.glob("*.db")):
        problem = (
            f"There is no database: TORPOR_DATABASE_URL is not set, and {data}/ has no *.db files of `torpor dev`. "
            "Set it, run this where `torpor dev` ran, or give --data DIR."
        )
        raise ConfigurationError([problem])
    return f"{_SQLITE}{quote(str(data.resolve()))}/{_MARK}.db"


def _found(url: str) -> list[Database]:
    path = unquote(url.removeprefix(_SQLITE))
    if not url.startswith(_SQLITE) or _MARK not in path:
        raise ConfigurationError(
            ["TORPOR_DATABASE_URL does not tell which services have a database. Name them: a PATH or MODULE:SERVICE …"]
        )
    before, _, after = path.partition(_MARK)
    files = sorted(glob.glob(f"{glob.escape(before)}*{glob.escape(after)}"))  # noqa: PTH207  # the mark may be anywhere
    if not files:
        raise ConfigurationError([f"There is no database like {path}. Has a service run, or `torpor migrate`?"])
    return [Database(file[len(before) : len(file) - len(after)], url) for file in files]
