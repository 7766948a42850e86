"""Messages that cannot be taken, on each real broker: parked with their bytes and the reason, and the others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.integration.trouble import until
from torpor import Event, Service, Tx
from torpor.assembly import assemble
from torpor.kernel.message import Message
from torpor.kernel.parked import ParkedQuery
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from torpor.runtime.host import Host

TOPIC, LARGE = (f"bad.{name}.{uuid4().hex}" for name in ("asked", "large"))


class Asked(Event, topic=TOPIC, key="id", version=2, upcasts={1: lambda old: {**old, "size": 1}}):
    id: str
    size: int


class Large(Event, topic=LARGE, key="id"):
    id: str
    text: str


class Handled:
    """A service that keeps the ids that it has handled, and publishes what is as large as it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.large: list[str] = []
        self.service = Service(f"taking-{uuid4().hex[:8]}")

        @self.service.on(Asked)
        async def take(event: Asked, tx: Tx) -> Large:
            self.asked.append(event.id)
            return Large(id=event.id, text="x" * event.size)

        @self.service.on(Large)
        async def keep(event: Large, tx: Tx) -> None:
            self.large.append(event.id)


@pytest.fixture
def handled() -> Handled:
    """What was handled."""
    return Handled()


@pytest.fixture(params=["nats", "kafka"])
async def host(request: pytest.FixtureRequest, handled: Handled, tmp_path: Path) -> AsyncIterator[Host]:
    """The service, running on a broker."""
    if request.param == "nats":
        url = request.getfixturevalue("nats_server").url
    else:
        url = f"{request.getfixturevalue('secured_kafka').url}?partitions=1&replication=1"
    database = f"sqlite:///{tmp_path}/{{service}}.db"
    settings = Settings.read({"TORPOR_BROKER_URL": url, "TORPOR_DATABASE_URL": database})
    deployment = assemble([handled.service], settings)
    await deployment.migrate()
    await deployment.start()
    (host,) = deployment.hosts
    await until(lambda: host.is_ready, host.status)
    yield host
    await deployment.stop()


def message(id: str, data: bytes, **attributes: str) -> Message:
    """A message for the handler, with a key of its own."""
    return Message(TOPIC, data, id=id + uuid4().hex, type=TOPIC, key=id, attributes={"source": "/t", **attributes})


async def test_what_cannot_be_read_is_parked_with_its_bytes(host: Host, handled: Handled) -> None:
    """No JSON, another shape, and a version newer than the code: each is parked whole with its reason; an older
    version is led on, and what comes behind is handled."""
    bad = {
        "broken": (b"\xff{no json", {}, "JSON"),
        "shape": (b'{"id": 1, "size": "x"}', {"dataversion": "2"}, "size"),
        "newer": (b'{"id": "newer", "grams": 1}', {"dataversion": "3"}, "version 3"),
    }
    messages = [message(id, data, **attributes) for id, (data, attributes, _) in bad.items()]
    messages += [
        message("older", b'{"id": "older"}', dataversion="1"),
        message("good", b'{"id": "good", "size": 1}', dataversion="2"),
    ]
    assert await host.broker.publish(messages) == {}

    await until(lambda: {"older", "good"} <= set(handled.large), host.status)

    async def parked() -> bool:
        return len(await host.store.parking.list()) == len(bad)

    await until(parked, host.status)
    for row in await host.store.parking.list():
        data, _, reason = bad[row.message.key or ""]
        assert row.message.data == data
        assert reason in row.reason
    assert host.is_ready


async def test_what_is_too_large_is_parked_and_the_rest_goes_on(host: Host, handled: Handled) -> None:
    """An event over the broker's limit is parked under `outbox` with the limit told; those of other keys go on."""
    sizes = {"first": 1, "huge": 2_000_000, "last": 1}
    messages = [
        message(id, f'{{"id": "{id}", "size": {size}}}'.encode(), dataversion="2") for id, size in sizes.items()
    ]
    assert await host.broker.publish(messages) == {}

    await until(lambda: {"first", "last"} <= set(handled.large), host.status)

    async def parked() -> bool:
        return len(await host.store.parking.list(ParkedQuery(binding="outbox"))) == 1

    await until(parked, host.status)
    (row,) = await host.store.parking.list(ParkedQuery(binding="outbox"))
    assert (row.binding, row.message.topic, row.message.key) == ("outbox", LARGE, "huge")
    assert len(row.message.data) > sizes["huge"]
    assert "takes at most" in row.reason
    assert host.is_ready


async def test_an_unknown_topic_is_refused_and_not_made(host: Host) -> None:
    """What is published to a topic that nobody has declared is refused with advice, and its neighbours are stored."""
    unknown = Message(f"bad.unknown.{uuid4().hex}", b"{}", id=uuid4().hex, type="t", key="k")
    refusals = await host.broker.publish([unknown, message("near", b'{"id": "near", "size": 1}')])
    assert list(refusals) == [0]
    assert "Declare" in str(refusals[0])
