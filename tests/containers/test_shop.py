"""The shop's image, in containers beside NATS and PostgreSQL: it works, and it loses nothing when one dies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.containers.stage import GRACE, ask, await_ready, eventually, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient
    from testcontainers.core.container import DockerContainer

    from tests.containers.stage import Stage

pytestmark = pytest.mark.timeout(400)  # the first test waits for images that are made
ORDERS = 30
_CHECK_BYTECODE = """
import importlib.util, pathlib, sys, sysconfig, torpor, orders.service
stdlib = pathlib.Path(sysconfig.get_path("stdlib"))
for module in list(sys.modules.values()):
    cached = getattr(getattr(module, "__spec__", None), "cached", None)
    if cached:
        flags = pathlib.Path(cached).read_bytes()[4:8]  # fails where there is none
        assert flags == (1).to_bytes(4, "little"), cached
assert (stdlib / "asyncio" / "__pycache__").is_dir()
"""
_CHECK_RIGHTS = """
import os
assert (os.getuid(), os.getgid()) == (10001, 10001)
told = dict(line.split(":", 1) for line in open("/proc/self/status"))
assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0, told
assert told["NoNewPrivs"].strip() == "1"
for folder in ("/", "/srv/shop", "/opt/torpor", "/etc"):
    try:
        open(f"{folder}/probe", "w")
    except OSError:
        continue
    raise SystemExit(f"{folder} can be written")
"""


class Customer:
    """Somebody with money, and tea to buy."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.name, self.sku = f"ada-{uuid4().hex[:8]}", f"tea-{uuid4().hex[:8]}"
        ask(stage.shop, "PUT", f"/inventory/{self.sku}", {"available": 1000, "price_cents": 450})
        ask(stage.shop, "PUT", f"/payments/accounts/{self.name}", {"balance_cents": 10_000_000})

    def place(self) -> str:
        """Orders one; returns the order's id."""
        body = {"customer_id": self.name, "items": [{"sku": self.sku, "quantity": 1}]}
        order_id: str = ask(self._stage.shop, "POST", "/orders", body)["id"]
        return order_id

    def mail(self) -> Counter[tuple[str, str]]:
        """The letters that came, by order and kind."""
        page: dict[str, Any] = ask(self._stage.notifications, "GET", f"/notifications/{self.name}?limit=100")
        return Counter((letter["order_id"], letter["kind"]) for letter in page["items"])

    def await_mail(self, orders: list[str]) -> None:
        """Returns once each order was told twice, placed and shipped, and no more."""
        wanted = Counter((order_id, kind) for order_id in orders for kind in ("placed", "shipped"))
        eventually(lambda: self.mail() >= wanted, lambda: f"{wanted - self.mail()} {told(self._stage.shop)}")
        assert self.mail() == wanted


def exit_code(container: DockerContainer) -> int:
    """How a container ended."""
    wrapped = container.get_wrapped_container()
    wrapped.reload()
    code: int = wrapped.attrs["State"]["ExitCode"]
    return code


def start_again(container: DockerContainer) -> None:
    """Starts a container that has ended, and waits until it is ready."""
    container.get_wrapped_container().start()
    await_ready(container)


def test_an_order_reaches_the_customer(stage: Stage) -> None:
    """An order that is posted to one container is told by another, over the broker, once for each step."""
    customer = Customer(stage)
    customer.await_mail([customer.place()])


def test_a_killed_consumer_loses_nothing(stage: Stage) -> None:
    """A container that is killed amid its work handles the rest when it is back, and nothing twice."""
    customer = Customer(stage)
    orders = [customer.place() for _ in range(ORDERS // 2)]
    stage.notifications.get_wrapped_container().kill()
    orders += [customer.place() for _ in range(ORDERS // 2)]
    assert exit_code(stage.notifications) == 137
    start_again(stage.notifications)
    customer.await_mail(orders)


def test_a_stopped_container_drains_within_its_grace(stage: Stage) -> None:
    """`docker stop` ends a container by its own will, with exit code 0, and what it left is done when it is back."""
    customer = Customer(stage)
    orders = [customer.place() for _ in range(ORDERS)]
    for container in (stage.notifications, stage.shop):
        container.get_wrapped_container().stop(timeout=GRACE)
        assert exit_code(container) == 0, told(container)
    start_again(stage.shop)
    start_again(stage.notifications)
    customer.await_mail(orders)


def test_a_container_has_no_rights_and_nothing_to_write(stage: Stage) -> None:
    """The services run as an ordinary user without capabilities, on a file system that is read-only."""
    for container in (stage.shop, stage.notifications):
        code, output = container.get_wrapped_container().exec_run(["python3", "-c", _CHECK_RIGHTS])
        assert code == 0, output.decode()


def test_the_image_is_compiled_and_holds_no_tools(engine: DockerClient, image: Callable[[str], str]) -> None:
    """Each module comes with bytecode that is not checked against its source; tests, uv and secrets stay outside."""
    name = image("SHOP_IMAGE")
    configuration = engine.images.get(name).attrs["Config"]
    assert configuration["User"] == "10001:10001"
    assert configuration["Cmd"][:2] == ["torpor", "run"]
    engine.containers.run(name, ["python3", "-c", _CHECK_BYTECODE], remove=True, network_mode="none")
    found = engine.containers.run(
        name, ["sh", "-c", "command -v uv; ls -d /build /srv/shop/*/tests; true"], remove=True
    )
    assert found.strip() in (b"", b"ls: /build: No such file or directory")
