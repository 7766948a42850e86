"""The shop on PostgreSQL and NATS: the same code, another URL."""

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
from torpor.adapters.nats.embedded import EmbeddedNats
from torpor.assembly import Deployment, assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.postgres_server import PostgresServer

ORDERS = 40
SERVICES = (orders, inventory, payments, shipping, notifications)


@pytest.fixture
async def shop(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Deployment]:
    """The five services, each in a schema of its own."""
    broker = EmbeddedNats(tmp_path / "nats")
    broker.start()
    settings = Settings.read(
        {"TORPOR_BROKER_URL": broker.url, "TORPOR_DATABASE_URL": f"{postgres.url()}&schema={{service}}"}
    )
    deployment = assemble(SERVICES, settings)
    await deployment.migrate()
    await deployment.start()
    async with asyncio.timeout(30):
        while not all(host.is_ready for host in deployment.hosts):  # noqa: ASYNC110  # a host tells no event
            await asyncio.sleep(0.01)
    yield deployment
    await deployment.stop()
    broker.stop()


async def test_orders_go_through_five_services_on_postgres(shop: Deployment) -> None:
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
        assert (await client.get("/inventory/tea")).json() | {"sku": ""} == {
            "sku": "",
            "available": 0,
            "reserved": 0,
            "shipped": 50,
            "price_cents": 5,
        }
        account = (await client.get("/payments/accounts/ada")).json()
        assert (account["balance_cents"], account["taken_cents"]) == (10_000 - 250, 250)
