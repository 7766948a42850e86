"""How a route deals with a request that comes again."""

from __future__ import annotations

import math

from torpor.kernel.errors import ConfigurationError


class Idempotent:
    """Lets a route know a request that comes again by its `Idempotency-Key`, and answer it as it did the first time.

    ```python
    @orders.post("/orders", idempotency=Idempotent(required=True))
    async def place(order: NewOrder, tx: Tx) -> Accepted: ...
    ```

    The answer is kept in the transaction of the route's effects, for `keep` seconds. What is rolled back keeps no
    answer, and the next request with the key runs. With `required` a request without a key is refused.
    """

    __slots__ = ("keep", "required")

    def __init__(self, *, required: bool = False, keep: float = 86_400.0) -> None:
        if not (math.isfinite(keep) and keep > 0):
            raise ConfigurationError([f"Idempotent(keep={keep}): expected seconds above 0."])
        self.required = required
        self.keep = keep

    def __repr__(self) -> str:
        return f"Idempotent(required={self.required}, keep={self.keep:g})"
