"""The service: what a team deploys."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError
from torpor.runtime.router import Router

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.auth import Auth
    from torpor.kernel.topic import Topic
    from torpor.runtime.rules import Rule


class Service(Router):
    """Handlers with a name and a database of their own.

    ```python
    orders = Service("orders", migrations="migrations")
    ```

    `migrations` names a folder of `.sql` files, beside the module that makes the service; they are applied once, in
    the order of their names. A file that ends in `.sqlite.sql` or `.postgres.sql` is for that database alone. A small
    service may give the files' names and texts instead: `migrations={"0001_order.sql": "CREATE TABLE ..."}`. `topics`
    says what is wished of topics that it publishes or listens to. `auth` says who may call its routes, unless a router
    or a route says otherwise, and `public` that anybody may. `rules` hold for all its routes; see `Limit`.
    """

    # Eight that a user may give, all but the name by their words: each is a thing that a deployed service has.
    def __init__(
        self,
        name: str,
        *,
        migrations: str | Mapping[str, str] | None = None,
        prefix: str = "",
        tags: Sequence[str] | None = None,
        topics: Sequence[Topic] = (),
        auth: Auth | None = None,
        public: bool = False,
        rules: Sequence[Rule] = (),
    ) -> None:
        tags = (name,) if tags is None else tags
        super().__init__(prefix=prefix, tags=tags, auth=auth, public=public, rules=rules)
        self.name = name
        self.topics = tuple(topics)
        caller = sys._getframe(1).f_globals.get("__file__")  # noqa: SLF001  # the folder is meant beside that file
        self._made_in = caller or "."
        self._migrations = migrations or {}

    def migrations(self) -> Mapping[str, str]:
        """The service's own migrations: file name to SQL, in order of name."""
        given = self._migrations
        if not isinstance(given, str):
            return dict(sorted(given.items()))
        from pathlib import Path  # late: they are read by `migrate`, and not by a service that wakes

        folder = Path(self._made_in).parent / given
        if not folder.is_dir():
            raise ConfigurationError(
                [f"Service {self.name!r} names the migrations {folder}, which is no folder. Make it, or drop it."]
            )
        return {file.name: file.read_text("utf-8") for file in sorted(folder.glob("*.sql"))}

    def __repr__(self) -> str:
        return f"<Service {self.name}>"
