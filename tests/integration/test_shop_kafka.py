"""The shop on Apache Kafka and PostgreSQL: the same code, two other URLs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from inventory.service import inventory
from notifications.service import notifications
from orders.service import orders
from payments.service import payments
from shipping.service import shipping
from tests.integration.kafka_server import Absent, KafkaServer
from torpor.assembly import Deployment, assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.postgres_server import PostgresServer

ORDERS = 40
SERVICES = (orders, inventory, payments, shipping, notifications)


@pytest.fixture
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """An Apache Kafka."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
async def shop(kafka: KafkaServer, postgres: PostgresServer) -> AsyncIterator[Deployment]:
    """The five services, each in a schema of its own; their topics have three partitions."""
    settings = Settings.read(
        {
            "TORPOR_BROKER_URL": f"{kafka.url}?partitions=3",
            "TORPOR_DATABASE_URL": f"{postgres.url()}&schema={{service}}",
        }
    )
    deployment = assemble(SERVICES, settings)
    await deployment.migrate()
    await deployment.start()
    async with asyncio.timeout(60):
        while not all(host.is_ready for host in deployment.hosts):  # noqa: ASYNC110  # a host tells no event
            await asyncio.sleep(0.01)
    yield deployment
    await deployment.stop()


async def test_orders_go_through_five_services_on_kafka(shop: Deployment) -> None:
    """Every order ends, those that the stock cannot fill as cancelled; stock and money are conserved."""
    transport = httpx.ASGITransport(app=shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        await client.put("/inventory/tea", json={"available": 50, "price_cents": 5})
        await client.put("/payments/accounts/ada", json={"balance_cents": 10_000})
        for _ in range(ORDERS):
            basket = {"customer_id": "ada", "items": [{"sku": "tea", "quantity": 2}]}
            assert (await client.post("/orders", json=basket)).status_code == 202
        async with asyncio.timeout(60):
            while True:
                placed = (await client.get(f"/orders?customer_id=ada&limit={ORDERS}")).json()["items"]
                if {order["status"] for order in placed} <= {"shipped", "cancelled"}:
                    break
                await asyncio.sleep(0.02)
        shipped = [order for order in placed if order["status"] == "shipped"]
        assert (len(placed), len(shipped)) == (ORDERS, 25)
        tea = (await client.get("/inventory/tea")).json()
        assert (tea["available"], tea["reserved"], tea["shipped"]) == (0, 0, 50)
        account = (await client.get("/payments/accounts/ada")).json()
        assert (account["balance_cents"], account["taken_cents"]) == (10_000 - 250, 250)
