"""A broker that is made late: what is wrong with its URL is told at the start all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from torpor import ConfigurationError, Event, Service
from torpor.assembly import assemble
from torpor.runtime.settings import Settings


class Placed(Event, topic="placed", key="id"):
    id: str


def orders() -> Service:
    made = Service("orders")

    @made.on(Placed)
    async def handle(event: Placed) -> None: ...

    return made


def settings(url: str) -> Settings:
    return Settings.read({"TORPOR_DELIVERY": "push", "TORPOR_BROKER_URL": url})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://localhost:4222?replica=3", "replica"),
        ("nats://localhost:4222?replicas=many", "replicas"),
        ("kafka://localhost:9092?sasl=GUESS", "sasl"),
        ("kafka://localhost:port", "port"),
    ],
)
def test_a_wrong_option_of_its_url_is_told_at_the_start(url: str, told: str) -> None:
    """And not when something is first published, which may be days later."""
    with pytest.raises(ConfigurationError, match=told):
        assemble([orders()], settings(url))


@pytest.mark.parametrize(
    "url", ["nats://a-b.example:4222,c:4222", "nats://localhost", "kafka://a:9092,b:9093", "memory://"]
)
def test_a_plain_url_is_taken_as_it_is(url: str) -> None:
    """It has nothing that could be wrong."""
    assert assemble([orders()], settings(url)).hosts[0].name == "orders"


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_late import orders, settings
from torpor.assembly import assemble
assemble([orders()], settings({url!r}))
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("url", "reads"),
    [
        ("nats://localhost:4222?replicas=3", True),
        ("kafka://localhost:9092?replication=3", True),
        ("nats://localhost:4222", False),
        ("kafka://localhost:9092", False),
    ],
)
def test_its_client_is_not_imported_for_that(url: str, *, reads: bool) -> None:
    """What reads the options is, when there are some."""
    program = PROGRAM.format(folder=__file__.rpartition("/")[0], url=url)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    names = set(run.stdout.split())
    assert not {"nats", "aiokafka", "faststream"} & names
    assert any(name.endswith((".nats.options", ".kafka.options")) for name in names) == reads
