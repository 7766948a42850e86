"""deploy/compose as users start it: `docker compose up`, over each broker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.containers.images import BINARIES, ROOT
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

pytestmark = pytest.mark.timeout(400)  # the first test waits for images that are made, and for all of a shop
SERVICES = ["orders", "inventory", "payments", "shipping", "notifications"]
TIMEOUT = 240
_IMAGES = ["SHOP_IMAGE", "CADDY_IMAGE", "POSTGRES_IMAGE"]


class Project:
    """A copy of deploy/compose with secrets of its own, over one broker."""

    def __init__(self, directory: Path, broker: str, images: dict[str, str]) -> None:
        self.name, self.port = f"torpor-{uuid4().hex[:8]}", free_port()
        for folder in ("deploy/compose", "observability"):
            shutil.copytree(ROOT / folder, directory / folder, ignore=shutil.ignore_patterns("secrets"))
        self._folder = directory / "deploy" / "compose"
        self._command = [str(BINARIES / "docker-compose"), "-p", self.name, "--profile", broker]
        self._environment = {**os.environ, **images, "BROKER": broker, "SHOP_PORT": str(self.port)}
        subprocess.run([self._folder / "prepare"], check=True, capture_output=True)

    def compose(self, *words: str) -> str:
        """Runs `docker compose`; fails with what it says when it fails."""
        run = subprocess.run(
            [*self._command, *words],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if run.returncode:
            log = "" if words[0] == "logs" else self.compose("logs", "--no-color", "--tail", "15")
            pytest.fail(f"docker compose {' '.join(words)}: {run.stderr[-3000:]}\n{log}")
        return run.stdout

    def up(self) -> None:
        """Starts all, and waits until every health check says well."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "180", "--no-build")

    def demo(self, orders: int) -> subprocess.Popen[str]:
        """Starts `torpor demo`, which places orders and proves that nothing was lost."""
        command = [str(BINARIES / "torpor"), "demo", "--url", f"http://127.0.0.1:{self.port}", "--orders", str(orders)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def containers(self, engine: DockerClient) -> dict[str, dict[str, Any]]:
        """What the engine knows of each container, by its service."""
        label = f"com.docker.compose.project={self.name}"
        found = engine.containers.list(all=True, filters={"label": label})
        return {each.labels["com.docker.compose.service"]: each.attrs for each in found}


@pytest.fixture(scope="module", params=["nats", "kafka"])
def project(
    request: pytest.FixtureRequest, image: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The shop, up and well, over a broker."""
    broker: str = request.param
    images = {variable: image(variable) for variable in [*_IMAGES, f"{broker.upper()}_IMAGE"]}
    project = Project(tmp_path_factory.mktemp(broker), broker, images)
    try:
        project.up()
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "5")


def test_the_demo_outlives_killed_containers(project: Project) -> None:
    """Orders are placed at the gateway while containers are killed; all end, and stock and money are conserved."""
    demo = project.demo(60)
    try:
        project.compose("kill", "payments", "notifications")
        project.compose("up", "--detach", "--no-build", "--no-recreate", "payments", "notifications")
        output, _ = demo.communicate(timeout=TIMEOUT)
    finally:
        demo.kill()
    assert demo.returncode == 0, f"{output}\n{project.compose('logs', '--tail', '15')}"
    assert "stock and money are conserved" in output


def test_every_container_is_confined(project: Project, engine: DockerClient) -> None:
    """None can write its root, gain a right or take all memory; none but the one that gives a volume away is root."""
    for service, told in project.containers(engine).items():
        host = told["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert not host["Privileged"], service
        assert told["Config"]["User"] != "0:0" or service == "nats-volume", service
        for bindings in (host["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, service


def test_it_stops_by_its_own_will_and_keeps_its_data(project: Project, engine: DockerClient) -> None:
    """`docker compose stop` ends every service with exit code 0; the next `up` has all orders."""
    before = orders_of(project)
    project.compose("stop")
    ended = {service: told["State"]["ExitCode"] for service, told in project.containers(engine).items()}
    assert {service: ended[service] for service in [*SERVICES, "keeper", "migrate"]} == dict.fromkeys(
        [*SERVICES, "keeper", "migrate"], 0
    )
    project.up()
    assert orders_of(project) == before


def orders_of(project: Project) -> list[dict[str, Any]]:
    """The latest orders, as the gateway answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{project.port}/orders?limit=100", timeout=20) as response:
        found: list[dict[str, Any]] = json.loads(response.read())["items"]
    return found
