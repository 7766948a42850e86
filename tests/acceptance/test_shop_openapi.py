"""What the shop answers is what its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inventory.service import inventory
from notifications.service import notifications
from orders import service as of_orders
from payments.service import payments
from shipping.service import shipping
from torpor.adapters.http.server import HttpServer
from torpor.assembly import assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MEMORY = {"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "memory://"}
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "missing_required_header",
)  # fmt: skip
OPTIONS = ("--phases", "coverage,fuzzing", "--max-examples", "12", "--seed", "7", "--continue-on-failure", "--no-color")


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The shop on a port, which looks once whether a SKU is in the catalogue: nobody is going to list it."""
    monkeypatch.setattr(of_orders, "LOOKS", (0,))
    services = (of_orders.orders, inventory, payments, shipping, notifications)
    deployment = assemble(services, Settings.read(MEMORY))
    server = HttpServer(deployment.app, port=0)
    await deployment.start()
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=10) as client, asyncio.timeout(20):
        while (await client.get("/-/ready")).status_code != 200:  # which is held for a while
            pass
        await client.put("/inventory/tea", json={"available": 5, "price_cents": 10})
        await client.put("/payments/accounts/ada", json={"balance_cents": 1000})
    yield url
    await server.stop(1)
    await deployment.stop(1)


async def test_the_shop_answers_as_its_document_says(address: str, tmp_path: Path) -> None:
    """No 5xx, and no status, type, header or body that is not in the document: each by name, not by its `default`."""
    async with httpx.AsyncClient(base_url=address) as client:
        document = (await client.get("/openapi.json")).json()
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(without_defaults(document)))
    command = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        command, "run", str(file), "--url", address, "--checks", ",".join(CHECKS), *OPTIONS,
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    assert b"Tested: 9" in told, told.decode()


def without_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """A document that names every answer: with `default` any would do."""
    for operations in document["paths"].values():
        for operation in operations.values():
            del operation["responses"]["default"]
    return document
