"""The shop is killed between orders and started again, and still every order ends and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICES = Path(__file__).resolve().parents[2] / "services"
TORPOR = Path(sys.executable).with_name("torpor")
DEADLINE = 30.0
STOCK = {"tea": (100_000, 10), "pot": (5, 2900)}
BALANCES = {"ada": 1_000_000, "bob": 4000}
BASKETS = (
    ("ada", {"tea": 2}),
    ("bob", {"pot": 1, "tea": 1}),
    ("ada", {"tea": 1000, "pot": 1}),  # too heavy for a carrier
    ("ada", {"pot": 1}),
)

pytestmark = pytest.mark.skipif(not TORPOR.exists(), reason="the torpor command is not installed")


class RunningShop:
    """The shop as a user runs it: `torpor dev services` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "shop.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it in a process group of its own, and waits until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [TORPOR, "dev", str(SERVICES), "--port", str(self.port), "--no-reload"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        running = self._process
        eventually(lambda: running.poll() is not None or self.ask("GET", "/-/ready") is not None, self.told)
        assert running.poll() is None, self.told()

    def kill(self) -> None:
        """SIGKILL to the whole group, the embedded broker included."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE)
            self._process = None

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer as JSON, or None when there is none."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", content, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                return json.loads(response.read() or b"{}")
        except (OSError, urllib.error.HTTPError):
            return None

    def told(self) -> str:
        """The end of its log, for a failure."""
        return self.log.read_text(errors="replace")[-4000:]


def eventually(fact: Callable[[], bool], told: Callable[[], str]) -> None:
    """Returns once the fact holds; fails with what is told when the deadline has passed."""
    deadline = time.monotonic() + DEADLINE
    while not fact():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE:g} s; {told()}")
        time.sleep(0.02)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[RunningShop]:
    """A running shop with stock and customers."""
    shop = RunningShop(tmp_path)
    try:
        shop.start()
        for sku, (available, price_cents) in STOCK.items():
            assert shop.ask("PUT", f"/inventory/{sku}", {"available": available, "price_cents": price_cents})
        for customer_id, balance_cents in BALANCES.items():
            assert shop.ask("PUT", f"/payments/accounts/{customer_id}", {"balance_cents": balance_cents})
        yield shop
    finally:
        shop.kill()


def place(shop: RunningShop, customer_id: str, basket: dict[str, int]) -> str:
    """Places an order that must be accepted, and returns its id."""
    items = [{"sku": sku, "quantity": quantity} for sku, quantity in basket.items()]
    accepted = shop.ask("POST", "/orders", {"customer_id": customer_id, "items": items})
    assert accepted, shop.told()
    return str(accepted["id"])


def listed(shop: RunningShop, status: str) -> list[str]:
    """The ids of the orders of a status."""
    page = shop.ask("GET", f"/orders?status={status}&limit=100")
    return [order["id"] for order in page["items"]]


def test_orders_outlive_kills(shop: RunningShop) -> None:
    """Killed at several moments between orders, the shop ends every order and conserves stock and money."""
    placed: list[str] = []
    for orders_before_the_kill in (1, 2, 5, 0, 12):
        placed += [place(shop, *BASKETS[(len(placed) + n) % len(BASKETS)]) for n in range(orders_before_the_kill)]
        shop.kill()
        shop.start()
    placed += [place(shop, *basket) for basket in BASKETS]

    eventually(lambda: len(listed(shop, "shipped") + listed(shop, "cancelled")) >= len(placed), shop.told)

    assert sorted(listed(shop, "shipped") + listed(shop, "cancelled")) == sorted(placed)
    assert listed(shop, "shipped")
    assert listed(shop, "cancelled")
    for sku, (available, _) in STOCK.items():
        now = shop.ask("GET", f"/inventory/{sku}")
        assert (now["available"] + now["shipped"], now["reserved"]) == (available, 0)
    for customer_id, balance_cents in BALANCES.items():
        now = shop.ask("GET", f"/payments/accounts/{customer_id}")
        assert now["balance_cents"] + now["taken_cents"] == balance_cents


def test_the_demo_outlives_a_kill(shop: RunningShop) -> None:
    """`torpor demo` finds every order ended and all conserved, though the shop dies under it."""
    command = [str(TORPOR), "demo", "--url", f"http://127.0.0.1:{shop.port}", "--orders", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        try:
            eventually(lambda: demo.poll() is not None or bool(listed(shop, "shipped")), shop.told)
            shop.kill()
            shop.start()
            output, _ = demo.communicate(timeout=DEADLINE)
        finally:
            demo.kill()
    assert demo.returncode == 0, f"{output}\n{shop.told()}"
    assert "stock and money are conserved" in output


def test_a_sku_can_be_ordered_as_soon_as_it_is_put(shop: RunningShop) -> None:
    """The answer to a PUT is enough to order: no customer waits for a projection."""
    for number in range(20):
        assert shop.ask("PUT", f"/inventory/new-{number}", {"available": 1, "price_cents": 1})
        place(shop, "ada", {f"new-{number}": 1})
