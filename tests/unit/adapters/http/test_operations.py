"""The routes under `/-/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from torpor import Event, Service
from torpor.adapters.http.app import build_app
from torpor.adapters.http.operations import Operations
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.unit.adapters.http.conftest import Opener


class Ping(Event, topic="ping"):
    id: int


def listener() -> Service:
    """A service that needs its broker, and has a route for every path."""
    service = Service("listener")

    @service.on(Ping)
    async def hear(event: Ping) -> None: ...

    @service.get("/{path:path}")
    async def all_paths(path: str) -> str:
        return path

    return service


async def test_a_running_service_is_live_and_ready(client_of: Opener) -> None:
    """Both probes answer 200, a route for every path cannot hide them, and HEAD works too."""
    client = await client_of(listener())
    assert (await client.get("/-/live")).json() == {"live": True}
    ready = await client.get("/-/ready")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    assert ready.json()["services"]["listener"]["ready"] is True
    assert (await client.head("/-/ready")).status_code == 200
    assert (await client.get("/anything")).json() == "anything"


async def test_a_service_without_its_broker_is_live_and_not_ready(client_of: Opener) -> None:
    """Readiness answers 503 and names the part; liveness does not care."""
    client = await client_of(listener(), is_up=False)
    ready = await client.get("/-/ready")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert ready.json()["services"]["listener"]["ready"] is False
    assert (await client.get("/-/live")).status_code == 200


async def test_numbers_and_documents_are_served(client_of: Opener) -> None:
    """Metrics keep their content type, topology and AsyncAPI are JSON, and none of these routes is in OpenAPI."""
    client = await client_of(Service("any"))
    metrics = await client.get("/-/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert metrics.text == "torpor_handled_total 1.0\n"
    assert (await client.get("/-/topology")).json() == {"services": []}
    assert (await client.get("/-/asyncapi")).json() == {"asyncapi": "3.0.0"}
    assert (await client.get("/openapi.json")).json()["paths"] == {}
    unknown = await client.get("/-/nothing")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "Not Found")


async def test_the_asyncapi_document_is_made_once() -> None:
    """The first request makes it; a maker that cannot work says what to install."""
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        if len(made) == 1:
            raise ConfigurationError(["AsyncAPI needs FastStream. Install torpor[nats]."])
        return {"number": len(made)}

    operations = Operations((), asyncapi=make, metrics=lambda: (b"", "text/plain"), topology=dict)
    app = build_app((), operations=operations, body_limit=1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://torpor.test") as client:
        missing = await client.get("/-/asyncapi")
        assert missing.status_code == 501
        assert "torpor[nats]" in missing.json()["detail"]
        assert (await client.get("/-/asyncapi")).json() == {"number": 2}
        assert (await client.get("/-/asyncapi")).json() == {"number": 2}
