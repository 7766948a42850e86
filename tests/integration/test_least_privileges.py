"""The shop's services, each with the permissions that docs/operating.md gives it and no others."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inventory.service import inventory
from notifications.service import notifications
from orders.service import orders
from payments.service import payments
from shipping.service import shipping
from tests.docs.pages import page_at, rows
from torpor.adapters.kafka.topics import group_of
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.names import durable_of, stream_of
from torpor.adapters.nats.options import options_of
from torpor.assembly import assemble, plans_of
from torpor.kernel.errors import BrokerUnavailable
from torpor.ports.consumer import Subscription
from torpor.runtime.settings import Settings
from torpor.testing.conformance.broker import counted, open_consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.kafka_secured import SecuredKafka
    from torpor.adapters.nats.embedded import EmbeddedNats
    from torpor.assembly import Deployment
    from torpor.runtime.plan import Plan
    from torpor.runtime.service import Service

    Serve = Callable[..., EmbeddedNats]

SERVICES = (orders, inventory, payments, shipping, notifications)
ORDERS = 10
DEADLINE = 60
PAGE = page_at("docs/operating.md")
_CODE = re.compile(r"`([^`]+)`")


def topics_of(plan: Plan, purpose: str) -> list[str]:
    """The topics that a row of the documentation speaks of."""
    published = {contract.__torpor_topic__ or "" for contract in plan.published}
    handled = {binding.topic for binding in plan.subscribers}
    return sorted((published if "publishes" in purpose else set()) | (handled if "listens" in purpose else set()))


def nats_subjects(plan: Plan) -> list[str]:
    """What a service may publish to on NATS."""
    subjects: list[str] = []
    for cell, purpose in rows(PAGE.section("Permissions on NATS")):
        for subject in _CODE.findall(cell):
            if "group" in purpose:
                for binding in plan.subscribers:
                    placed = subject.replace("STREAM", stream_of(binding.topic), 1) if "JS.ACK" in subject else subject
                    placed = re.sub(r"\.STREAM\b(?=\.GROUP)", f".{stream_of(binding.topic)}", placed)
                    subjects.append(placed.replace("GROUP", durable_of(binding.group)).replace("TOPIC", binding.topic))
            elif "topic" in purpose:
                subjects += [
                    re.sub(r"\.STREAM$", f".{stream_of(topic)}", subject).replace("TOPIC", topic)
                    for topic in topics_of(plan, purpose)
                ]
            else:
                subjects.append(subject)
    return sorted(set(subjects))


def nats_config(plans: list[Plan], *, without: str = "") -> str:
    """The server's users, each with the permissions of its service."""
    users = []
    for plan in plans:
        allowed = ", ".join(f'"{subject}"' for subject in nats_subjects(plan) if not without or without not in subject)
        permissions = f'publish: {{allow: [{allowed}]}}, subscribe: {{allow: ["_INBOX.>"]}}'
        users.append(f'{{user: {plan.name}, password: "s3cret", permissions: {{{permissions}}}}}')
    return f"authorization {{ users: [{', '.join(users)}] }}"


async def run_shop(url_of: Callable[[str], str], folder: Path) -> None:
    """Each service in a deployment of its own; orders are placed, and all are shipped or cancelled."""
    deployments = [_deployed(service, url_of(service.name), folder) for service in SERVICES]
    try:
        for deployment in deployments:
            await deployment.migrate()
            await deployment.start()
        (host_of,) = [{host.name: host for deployment in deployments for host in deployment.hosts}]
        async with asyncio.timeout(DEADLINE):
            while not all(host.is_ready for host in host_of.values()):  # noqa: ASYNC110  # a host tells no event
                await asyncio.sleep(0.05)
        await _place_orders({host.name: deployment for deployment in deployments for host in deployment.hosts})
    except TimeoutError as error:
        raise AssertionError([host.status() for d in deployments for host in d.hosts if not host.is_ready]) from error
    finally:
        for deployment in deployments:
            await deployment.stop()


def _deployed(service: Service, url: str, folder: Path) -> Deployment:
    database = f"sqlite:///{folder}/{{service}}.db"
    return assemble([service], Settings.read({"TORPOR_BROKER_URL": url, "TORPOR_DATABASE_URL": database}))


async def _place_orders(deployments: dict[str, Deployment]) -> None:
    def client(name: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(deployments[name].app), base_url="http://shop.test")

    async with client("inventory") as stock, client("payments") as money, client("orders") as shop:
        await stock.put("/inventory/tea", json={"available": 12, "price_cents": 5})
        await money.put("/payments/accounts/ada", json={"balance_cents": 10_000})
        for _ in range(ORDERS):
            basket = {"customer_id": "ada", "items": [{"sku": "tea", "quantity": 2}]}
            assert (await shop.post("/orders", json=basket)).status_code == 202
        async with asyncio.timeout(DEADLINE):
            while True:
                page = await shop.get(f"/orders?customer_id=ada&limit={ORDERS}")
                placed: list[dict[str, Any]] = page.json()["items"]
                if {order["status"] for order in placed} <= {"shipped", "cancelled"}:
                    break
                await asyncio.sleep(0.05)
    assert len([order for order in placed if order["status"] == "shipped"]) == 6


@pytest.fixture
def serve_closed(serve_nats: Serve, tmp_path: Path) -> Iterator[Callable[[str], EmbeddedNats]]:
    """Starts a NATS server with a configuration."""

    def serve(config: str) -> EmbeddedNats:
        (tmp_path / "server.conf").write_text(config)
        return serve_nats(arguments=("-c", str(tmp_path / "server.conf")))

    return serve  # type: ignore[return-value]


async def test_the_shop_runs_with_the_documented_permissions_on_nats(
    serve_closed: Callable[[str], EmbeddedNats], tmp_path: Path, lines: list[str]
) -> None:
    """Orders go through five services, each a user of its own; no service asks for what it may not, to the end."""
    server = serve_closed(nats_config(plans_of(SERVICES)))
    await run_shop(lambda name: f"nats://{name}:s3cret@127.0.0.1:{server.port}", tmp_path)
    assert [line for line in lines if "ermission" in line] == []


async def test_the_shop_runs_with_the_documented_permissions_on_kafka(
    secured_kafka: SecuredKafka, tmp_path: Path, lines: list[str]
) -> None:
    """The same on Kafka, where the topics are made by the services."""
    for plan in plans_of(SERVICES):
        for operation, resource, purpose in rows(PAGE.section("Permissions on Kafka")):
            (right,) = (_snake(name) for name in _CODE.findall(operation))
            if "optional" in purpose:
                continue
            if "group" in resource:
                for binding in plan.subscribers:
                    group = group_of(Subscription(binding.topic, binding.group))
                    await secured_kafka.grant(plan.name, "group", group, right)
            else:
                meant = "publishes, listens" if "made" in purpose else purpose
                for topic in topics_of(plan, meant):
                    await secured_kafka.grant(plan.name, "topic", topic, right)
    lines.clear()  # of what the grants took
    await run_shop(lambda name: secured_kafka.url_of("sasl", name, sasl="SCRAM-SHA-512"), tmp_path)
    assert [line for line in lines if "ermission" in line or "uthoriz" in line] == []


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("$JS.API.INFO", "does not permit us to publish to '$JS.API.INFO'"),
        ("STREAM.NAMES", "does not permit us to publish to '$JS.API.STREAM.NAMES'"),
        ("STREAM.CREATE", "does not permit us to publish to '$JS.API.STREAM.CREATE."),
        ("CONSUMER.CREATE", "does not permit us to publish to '$JS.API.CONSUMER.CREATE."),
    ],
)
async def test_what_is_not_permitted_on_nats_is_told_at_once(
    serve_closed: Callable[[str], EmbeddedNats], without: str, told: str
) -> None:
    """Without one of the permissions a service is told its subject, and does not wait for an answer in vain."""
    plan = plans_of([orders])[0]
    server = serve_closed(nats_config([plan], without=without))
    broker = JetStreamBroker(options_of(f"nats://orders:s3cret@127.0.0.1:{server.port}", name="orders"))
    await broker.start()
    subscriptions = [Subscription(binding.topic, binding.group) for binding in plan.subscribers]
    with pytest.raises(BrokerUnavailable) as caught:
        async with asyncio.timeout(broker.options.request_timeout / 2):
            await broker.declare(plan.topics, subscriptions)
    assert told in str(caught.value)
    await broker.stop()


async def test_who_may_not_hear_answers_is_told(serve_closed: Callable[[str], EmbeddedNats]) -> None:
    """Without the right to subscribe to the inbox, every question fails at once with the reason."""
    denied = 'permissions: {subscribe: {deny: ["_INBOX.>"]}}'
    server = serve_closed(f'authorization {{ users: [{{user: a, password: "s3cret", {denied}}}] }}')
    broker = JetStreamBroker(options_of(f"nats://a:s3cret@127.0.0.1:{server.port}", name="t"))
    await broker.start()
    for _ in range(2):
        with pytest.raises(
            BrokerUnavailable, match=r"does not permit us to hear answers. Allow us to subscribe to _INB"
        ):
            async with asyncio.timeout(broker.options.request_timeout / 2):
                await broker.ping()
    await broker.stop()


async def test_who_may_not_acknowledge_is_told(serve_closed: Callable[[str], EmbeddedNats]) -> None:
    """Without the right to acknowledge, the consumer says so, rather than be given the same again for ever."""
    denied = 'permissions: {publish: {deny: ["$JS.ACK.>"]}}'
    server = serve_closed(f'authorization {{ users: [{{user: a, password: "s3cret", {denied}}}] }}')
    broker = JetStreamBroker(options_of(f"nats://a:s3cret@127.0.0.1:{server.port}", name="t"))
    await broker.start()
    consumer = await open_consumer(broker, "t")
    await broker.publish(counted("t", [0]))
    async with asyncio.timeout(DEADLINE):
        await consumer.acknowledge(await consumer.fetch(1))
        with pytest.raises(BrokerUnavailable, match=r"not permitted to publish to \$js\.ack\.t\.group"):
            await consumer.fetch(1)
    await broker.stop()
