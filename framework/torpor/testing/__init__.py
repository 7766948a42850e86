"""For the tests of services and of adapters."""

from __future__ import annotations

from torpor.kernel.errors import NeverSettled
from torpor.testing.shop import TestShop

__all__ = ["NeverSettled", "TestShop"]
