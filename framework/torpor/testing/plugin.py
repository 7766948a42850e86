"""The pytest plugin: a `shop` fixture that runs the services a test module names.

```python
@pytest.fixture
def torpor_services() -> list[Service]:
    return [orders, inventory]


async def test_an_order_is_placed(shop: TestShop) -> None:
    await shop.post("/orders", json={...})
```

Async tests and fixtures run by anyio's own plugin: set `anyio_mode = "auto"` in pytest's settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from torpor.runtime.service import Service
    from torpor.testing.shop import TestShop


@pytest.fixture
def torpor_services() -> Sequence[Service]:
    """The services that `shop` runs. A test module gives its own."""
    pytest.fail(
        "The fixture `shop` runs what the fixture `torpor_services` returns. Define it, in the test or conftest.py."
    )


@pytest.fixture
async def shop(torpor_services: Sequence[Service]) -> AsyncIterator[TestShop]:
    """A running harness of the services that `torpor_services` returns."""
    from torpor.testing.shop import TestShop

    async with TestShop(*torpor_services) as opened:
        yield opened
