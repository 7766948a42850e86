"""How much a GraphQL query may ask for. Pure."""

from __future__ import annotations

from torpor.kernel.errors import ConfigurationError


class QueryLimits:
    """How large a query may be, before anything of it is done: fields inside fields (`depth`), fields in all with
    those of its fragments each time they are used (`fields`), names that it gives to fields (`aliases`), and words
    and marks of its text (`tokens`). More is refused.

    ```python
    small = QueryLimits(depth=5, fields=50)
    ```
    """

    __slots__ = ("aliases", "depth", "fields", "tokens")

    def __init__(self, *, depth: int = 10, fields: int = 300, aliases: int = 30, tokens: int = 2000) -> None:
        self.depth = depth
        self.fields = fields
        self.aliases = aliases
        self.tokens = tokens
        if min(depth, fields, tokens) < 1 or aliases < 0:
            raise ConfigurationError([f"{self!r} lets no query in. Expected 1 or more."])

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={getattr(self, name)}" for name in ("depth", "fields", "aliases", "tokens"))
        return f"QueryLimits({counts})"
