"""The keys of outgoing calls: what lets another system know that a call comes again."""

from __future__ import annotations

from base64 import b32encode

from torpor.kernel.errors import ConfigurationError

_BYTES = 20  # of the digest, 32 characters: enough that no two are alike, short enough for any system's field


class StepKey:
    """Makes keys for calls to other systems: the same each time this message is handled, another for each name.

    ```python
    @orders.on(OrderPlaced)
    async def charge(event: OrderPlaced, step_key: StepKey) -> OrderPaid:
        await bank.charge(event.total_cents, idempotency_key=step_key("charge"))
        return OrderPaid(order_id=event.order_id)
    ```

    A handler may run more than once for a message: after a failure, a crash, a redelivery, a redrive. The other system
    knows the call by its key, and does it once. The same name gives the same key, so calls that are to be done each
    need a name each. In a route the key comes from the request's `Idempotency-Key`. With `Tx` it is `tx.step_key` too.
    """

    __slots__ = ("_binding", "_origin")

    def __init__(self, binding: str, origin: str | None) -> None:
        self._binding = binding
        self._origin = origin  # the message's id, or the request's key

    def __call__(self, name: str) -> str:
        """The key of a call: 32 characters, a to z and 2 to 7."""
        if self._origin is None:
            raise ConfigurationError(
                [
                    (
                        f"Handler {self._binding!r} asked for the step key {name!r}, and has nothing to make one of "
                        "that is the same the next time. In a route, have the client send an Idempotency-Key: "
                        "idempotency=Idempotent(required=True). In a batch handler, use an id of the event's own."
                    )
                ]
            )
        from hashlib import sha256

        # Each part with its length, so that no two triples are written alike.
        named = "".join(f"{len(part)}:{part}" for part in (self._binding, self._origin, name))
        return b32encode(sha256(named.encode("utf-8", "surrogatepass")).digest()[:_BYTES]).decode().lower()
