"""The shop in containers, as compose.yaml starts them, one by one."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.images import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

DEADLINE = 90.0
GRACE = 45
COMPOSE = ROOT / "deploy" / "compose"
HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "mem_limit": "512m",
}
_SHOP = ["orders", "inventory", "payments", "shipping"]
_PASSWORD = "sea-shell"  # of servers that live for seconds
_SECRETS = {
    "postgres_password": _PASSWORD,
    "shop_password": _PASSWORD,
    "database_url": f"postgresql://shop:{_PASSWORD}@postgres:5432/shop?schema={{service}}&sslmode=disable",
    "broker_url": f"nats://shop:{_PASSWORD}@nats:4222",
    "nats_auth": f'authorization {{ user: shop, password: "{_PASSWORD}" }}',
}


class Stage:
    """NATS, PostgreSQL, and the shop: one container that answers customers, one that writes to them."""

    def __init__(self, image: Callable[[str], str], directory: Path) -> None:
        self._image = image
        self._secrets = directory
        self._network: Network | None = None
        self._started: list[DockerContainer] = []
        self.shop: DockerContainer
        self.notifications: DockerContainer

    def start(self) -> None:
        """Starts all, in order, and waits until the shop is ready."""
        from testcontainers.core.network import Network

        for name, text in _SECRETS.items():
            (self._secrets / name).write_text(text)
            (self._secrets / name).chmod(0o444)
        self._secrets.chmod(0o755)  # what is above it keeps others away, and the containers' users are others
        self._network = Network().create()
        self._start_servers()
        self._migrate()
        self.shop = self.run("shop", *(f"{name}.service:{name}" for name in _SHOP))
        self.notifications = self.run("notifications", "notifications.service:notifications")
        for container in (self.shop, self.notifications):
            await_ready(container)

    def stop(self) -> None:
        """Removes all of it, and what the containers kept."""
        for container in reversed(self._started):
            container.stop()
        if self._network is not None:
            self._network.remove()

    def run(self, name: str, *services: str) -> DockerContainer:
        """Starts a container with services of the shop."""
        container = self._container(name, "SHOP_IMAGE", "torpor", "run", *services)
        return self._up(container.with_exposed_ports(8000))

    def _start_servers(self) -> None:
        postgres = self._container("postgres", "POSTGRES_IMAGE", "postgres", user="999:999")
        postgres.with_env("POSTGRES_PASSWORD_FILE", "/run/secrets/postgres_password")
        postgres.with_volume_mapping(str(COMPOSE / "postgres"), "/docker-entrypoint-initdb.d", "ro")
        postgres.tmpfs["/var/lib/postgresql"] = "uid=999,mode=0700"
        nats = self._container(
            "nats", "NATS_IMAGE", "nats-server", "--config", "/etc/nats/shop.conf", user="10001:10001"
        )
        nats.with_volume_mapping(str(COMPOSE / "nats.conf"), "/etc/nats/shop.conf", "ro")
        nats.with_volume_mapping(str(self._secrets / "nats_auth"), "/etc/nats/auth.conf", "ro")
        nats.tmpfs["/data"] = "uid=10001,mode=0700"
        self._up(postgres)
        self._up(nats)

    def _migrate(self) -> None:
        names = [*_SHOP, "notifications"]
        services = [f"{name}.service:{name}" for name in names]

        def attempt() -> tuple[int, str]:
            container = self._up(self._container("migrate", "SHOP_IMAGE", "torpor", "migrate", *services))
            code: int = container.get_wrapped_container().wait(timeout=DEADLINE)["StatusCode"]
            return code, told(container)

        eventually(lambda: attempt()[0] == 0, lambda: attempt()[1])  # the database may not be up yet

    def _container(self, name: str, variable: str, *command: str, user: str | None = None) -> DockerContainer:
        from testcontainers.core.container import DockerContainer

        assert self._network is not None
        container = DockerContainer(self._image(variable)).with_command(list(command)).with_network(self._network)
        container.with_network_aliases(name).with_volume_mapping(str(self._secrets), "/run/secrets", "ro")
        container.tmpfs["/tmp"] = "mode=1777"
        if variable == "SHOP_IMAGE":
            container.with_env("TORPOR_DATABASE_URL_FILE", "/run/secrets/database_url")
            container.with_env("TORPOR_BROKER_URL_FILE", "/run/secrets/broker_url")
            container.with_env("TORPOR_DRAIN_SECONDS", "20")
        return container.with_kwargs(**HARDENED, **({"user": user} if user else {}))

    def _up(self, container: DockerContainer) -> DockerContainer:
        self._started.append(container.start())
        return container


def ask(container: DockerContainer, method: str, path: str, body: Any = None) -> Any:
    """The answer of a container's HTTP server. Raises OSError when there is none."""
    address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8000)}{path}"
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know this machine
    with opener.open(request, timeout=20) as response:
        return json.loads(response.read() or b"null")


def await_ready(container: DockerContainer) -> None:
    """Returns once a container is ready."""

    def is_ready() -> bool:
        try:
            ask(container, "GET", "/-/ready")
        except (OSError, urllib.error.HTTPError):
            return False
        return True

    eventually(is_ready, lambda: told(container))


def told(container: DockerContainer) -> str:
    """The end of a container's log."""
    text: bytes = container.get_wrapped_container().logs(tail=40)
    return text.decode(errors="replace")


def eventually(fact: Callable[[], bool], what: Callable[[], str]) -> None:
    """Returns once a fact holds; fails with what is told when the deadline has passed."""
    deadline = time.monotonic() + DEADLINE
    while not fact():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE:g} s: {what()}")
        time.sleep(0.1)
