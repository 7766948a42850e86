"""Kafka that lets nobody in but whom it knows: every way in by the URL alone, and what is told of the wrong ones."""

from __future__ import annotations

import asyncio
import traceback
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.integration.certificates import Authority, Certificate
from tests.integration.kafka_secured import SecuredKafka
from tests.integration.kafka_server import Absent
from tests.integration.trouble import until
from torpor import Event, Service
from torpor.adapters.kafka.broker import KafkaBroker
from torpor.adapters.kafka.options import options_of
from torpor.assembly import assemble
from torpor.kernel.errors import BrokerUnavailable
from torpor.runtime.settings import Settings
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torpor.runtime.host import Host

DEADLINE = 60
SECRET = "s3cret"  # a part of every password here
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


class Papers:
    """What a client may have in its hands: files to be named in a URL."""

    def __init__(self, server: SecuredKafka, folder: Path) -> None:
        authority = server.authority
        strangers = Authority(folder, "strangers")
        self.files = {
            "@ca": authority.file,
            "@other-ca": strangers.file,
            **_pair("shop", authority.certificate("shop")),
            **_pair("late", authority.certificate("late", days=-1)),
            **_pair("stranger", strangers.certificate("stranger")),
            "@both": folder / "both.pem",
            "@password": folder / "password",
            "@wrong-password": folder / "wrong-password",
        }
        self.files["@both"].write_text(authority.certificate("shop").chain)
        self.files["@password"].write_text("right-s3cret\n")
        self.files["@wrong-password"].write_text("wrong-s3cret")

    def url(self, server: SecuredKafka, way: str) -> str:
        """A way such as `secure shop:right-s3cret sasl=PLAIN ca=@ca host=localhost`."""
        listener, *words = way.split()
        given = {"partitions": "1", "replication": "1"} | dict(word.split("=") for word in words if "=" in word)
        who = next((f"{word}@" for word in words if "=" not in word), "")
        port = server.port if listener == "client" else server.ports[listener]
        host = given.pop("host", "127.0.0.1")
        return f"kafka://{who}{host}:{port}?" + "&".join(
            f"{name}={self.files.get(value, value)}" for name, value in given.items()
        )


def _pair(name: str, certificate: Certificate) -> dict[str, Path]:
    return {f"@{name}": certificate.file, f"@{name}-key": certificate.key}


@pytest.fixture(scope="module")
def papers(secured_kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates and passwords, right and wrong."""
    return Papers(secured_kafka, tmp_path_factory.mktemp("papers"))


@pytest.mark.parametrize(
    "way",
    [
        "sasl shop:right-s3cret",
        "sasl shop:right%2Ds3cret sasl=SCRAM-SHA-256",
        "sasl shop:right-s3cret sasl=SCRAM-SHA-512",
        "sasl shop password_file=@password sasl=scram-sha-512",
        "sasl odd:s3cret%20%3F%23%2F%40%2C%3A%25%C3%A9",
        "sasl odd:s3cret%20%3F#/%40,:%25é",
        "tls ca=@ca",
        "tls ca=@ca host=localhost tls=yes",
        "mutual ca=@ca cert=@shop key=@shop-key",
        "mutual ca=@ca cert=@both",
        "secure shop:right-s3cret ca=@ca",
        "secure shop:right-s3cret ca=@ca sasl=SCRAM-SHA-512",
        "secure shop password_file=@password ca=@ca sasl=SCRAM-SHA-256",
    ],
)
async def test_every_way_in_carries_messages(secured_kafka: SecuredKafka, papers: Papers, way: str) -> None:
    """What the URL says is enough to declare, to publish and to consume."""
    topic = f"secured.{uuid4().hex}"
    broker = KafkaBroker(options_of(papers.url(secured_kafka, way), name="t"))
    async with asyncio.timeout(DEADLINE):
        await broker.start()
        consumer = await open_consumer(broker, topic)
        assert await broker.publish(counted(topic, range(3))) == {}
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
        await broker.ping()
        await broker.stop()
    assert SECRET not in repr(broker) + repr(broker.options) + repr(consumer)


@pytest.mark.parametrize(
    ("way", "reason", "advice"),
    [
        ("sasl shop:wrong-s3cret", "refuses user 'shop' by PLAIN", "Check the user, the password"),
        ("sasl shop:wrong-s3cret sasl=SCRAM-SHA-256", "refuses user 'shop' by SCRAM-SHA-256", "Check the user"),
        ("sasl shop:wrong-s3cret sasl=SCRAM-SHA-512", "refuses user 'shop' by SCRAM-SHA-512", "Check the user"),
        ("sasl shop password_file=@wrong-password sasl=SCRAM-SHA-512", "refuses user 'shop'", "Check the user"),
        ("sasl nobody:wrong-s3cret", "refuses user 'nobody' by PLAIN", "Check the user"),
        ("secure shop:wrong-s3cret ca=@ca sasl=SCRAM-SHA-512", "refuses user 'shop'", "Check the user"),
        ("sasl", "hung up on our first question", "It may want a user: kafka://user:password@"),
        ("secure ca=@ca", "hung up on our first question", "It may want a user: kafka://user:password@"),
        ("client shop:right-s3cret", "asks for no user on this port", "Leave user and password out"),
        ("tls tls=yes", "do not accept its certificate: unable to get local issuer", "with ca="),
        ("tls ca=@other-ca", "do not accept its certificate: unable to get local issuer", "with ca="),
        ("expired ca=@ca", "do not accept its certificate: certificate has expired", "Have it renewed"),
        ("elsewhere ca=@ca", "certificate is not valid for '127.0.0.1'", "Name the server"),
        ("elsewhere ca=@ca host=localhost", "certificate is not valid for 'localhost'", "Name the server"),
        ("tls", "speaks TLS on this port", "Write tls=yes"),
        ("secure shop:right-s3cret", "speaks TLS on this port", "Write tls=yes"),
        ("client ca=@ca", "hung up on TLS", "Leave tls, ca and cert out"),
        ("sasl shop:right-s3cret ca=@ca", "hung up on TLS", "Leave tls, ca and cert out"),
        ("mutual ca=@ca", "wants a certificate of ours", "Give cert= and key="),
        ("mutual ca=@ca cert=@stranger key=@stranger-key", "does not accept our certificate", "signed by an authority"),
        ("mutual ca=@ca cert=@late key=@late-key", "does not accept our certificate", "or renewed"),
    ],
)
async def test_a_wrong_way_in_is_told_with_advice(
    secured_kafka: SecuredKafka, papers: Papers, lines: list[str], way: str, reason: str, advice: str
) -> None:
    """The start ends soon with the address, what is wrong and what to do, and may be called again. No secret is in the
    error, its causes, the representations or the log."""
    broker = KafkaBroker(options_of(papers.url(secured_kafka, way), name="t"))
    async with asyncio.timeout(DEADLINE):
        for _ in range(2):
            with pytest.raises(BrokerUnavailable) as caught:
                await broker.start()
            told = str(caught.value)
            assert "cannot be reached" in told
            assert reason in told
            assert advice in told
            everything = "".join(traceback.format_exception(caught.value)) + repr(broker) + repr(broker.options)
            assert SECRET not in everything + "\n".join(lines)
        await broker.stop()


class Noticed(Event, topic=f"noticed.{uuid4().hex}"):
    number: int


def listening() -> Service:
    """A service that only listens."""
    service = Service("listening")

    @service.on(Noticed)
    async def notice(event: Noticed) -> None: ...

    return service


@pytest.fixture
def closed_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One of the test's own, which it restarts."""
    server = SecuredKafka(tmp_path_factory.mktemp("closed"))
    try:
        server.start()
    except Absent as error:
        pytest.skip(str(error))
    yield server
    server.stop()


def _tells(host: Host, reason: str) -> bool:
    return reason in str(host.status())


async def test_a_service_waits_until_the_server_lets_it_in(
    closed_kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    """Services with a password that the server does not know, and with a server whose certificate has expired, are not
    ready and say why. They go on by themselves once the server is mended. No secret is logged or shown."""
    papers = Papers(closed_kafka, tmp_path_factory.mktemp("closed-papers"))
    hosts: list[Host] = []
    for way in ("sasl clerk:new-s3cret", "expired ca=@ca"):
        settings = Settings.read({"TORPOR_BROKER_URL": papers.url(closed_kafka, way)})
        assert SECRET not in repr(settings)
        hosts += assemble([listening()], settings).hosts
    for host in hosts:
        await host.start()
    try:
        for host, reason in zip(hosts, ("refuses user 'clerk'", "certificate has expired"), strict=True):
            await until(partial(_tells, host, reason), host.status)
            assert not host.is_ready
        await asyncio.to_thread(closed_kafka.stop)
        closed_kafka.change("clerk-s3cret", "new-s3cret")
        closed_kafka.change("User:shop", "User:shop;User:clerk")
        closed_kafka.change(str(closed_kafka.directory / "expired.pem"), str(closed_kafka.directory / "tls.pem"))
        await asyncio.to_thread(closed_kafka.start)
        for host in hosts:
            await until(partial(getattr, host, "is_ready"), host.status)
    finally:
        for host in hosts:
            await host.stop(5)
    assert SECRET not in "\n".join([*lines, *(str(host.status()) for host in hosts)])
