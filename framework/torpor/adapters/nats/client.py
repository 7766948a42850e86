"""The live client of nats-py, for what Torpor has no word for: key-value buckets, object stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.adapters.nats.broker import JetStreamBroker
from torpor.kernel.errors import ConfigurationError
from torpor.ports.broker import Broker  # noqa: TC001  # read where the dependency is bound

if TYPE_CHECKING:
    from nats.aio.client import Client


def nats_client(broker: Broker) -> Any:
    """The client that the service's broker is connected with now, as a dependency.

    ```python
    from typing import Annotated


    @orders.get("/flags/{name}")
    async def flag(name: str, client: Annotated[Any, Depends(nats_client)]) -> str:
        bucket = await client.jetstream().key_value("flags")
        return (await bucket.get(name)).value.decode()
    ```

    Ask for it in each call, and keep nothing of it: a lost connection is replaced by another client. Do not close it.
    Raises BrokerUnavailable while there is no connection, and ConfigurationError on another broker than NATS.
    """
    if not isinstance(broker, JetStreamBroker):
        raise ConfigurationError([f"nats_client needs TORPOR_BROKER_URL=nats://…, and the broker is {broker!r}."])
    client: Client = broker.client
    return client
