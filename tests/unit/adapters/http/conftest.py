"""Services behind their application, without a socket."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest

from torpor.adapters.http.app import build_app
from torpor.adapters.http.operations import Operations
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from torpor import Service


class Opener(Protocol):
    """Runs services, and returns a client of their application."""

    async def __call__(
        self, *services: Service, body_limit: int = ..., is_up: bool = ..., raises: bool = ...
    ) -> httpx.AsyncClient: ...


@pytest.fixture
async def client_of() -> AsyncIterator[Opener]:
    """Opens clients, and closes them and their services after the test."""
    async with AsyncExitStack() as stack:

        async def opened(
            *services: Service, body_limit: int = 1000, is_up: bool = True, raises: bool = False
        ) -> httpx.AsyncClient:
            shop = TestShop(*services, waits=is_up)
            shop.hub.is_down = not is_up
            await stack.enter_async_context(shop)
            app = build_app(
                shop.hosts,
                operations=Operations(
                    shop.hosts,
                    asyncapi=lambda: {"asyncapi": "3.0.0"},
                    metrics=lambda: (b"torpor_handled_total 1.0\n", "text/plain; version=0.0.4; charset=utf-8"),
                    topology=lambda: {"services": []},
                ),
                body_limit=body_limit,
            )
            transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://torpor.test")
            )

        yield opened
