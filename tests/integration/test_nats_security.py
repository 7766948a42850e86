"""NATS that lets nobody in but whom it knows: every way in by the URL alone, and what is told of the wrong ones."""

from __future__ import annotations

import asyncio
import socket
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.integration.certificates import Authority
from tests.integration.nats_keys import Accounts, Key
from tests.integration.trouble import until
from torpor import Event, Service
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import options_of
from torpor.assembly import assemble
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.runtime.settings import Settings
from torpor.testing.conformance.broker import counted, numbers, open_consumer, take

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torpor.adapters.nats.embedded import EmbeddedNats

    Serve = Callable[..., EmbeddedNats]

DEADLINE = 60
SECRET = "s3cret"  # a part of every password and token here
PASSWORD = 'authorization {{ user: shop, password: "right-s3cret" }}'
TOKEN = 'authorization {{ token: "right-s3cret" }}'
NKEY = "authorization {{ users: [{{nkey: {nkey}}}] }}"
JWT = "{jwt}"
TLS = 'tls {{ cert_file: "{server}", key_file: "{server_key}" }}'
EXPIRED = 'tls {{ cert_file: "{expired}", key_file: "{expired_key}" }}'
ELSEWHERE = 'tls {{ cert_file: "{elsewhere}", key_file: "{elsewhere_key}" }}'
MUTUAL = 'tls {{ cert_file: "{server}", key_file: "{server_key}", ca_file: "{ca}", verify: true }}'
BOTH = TLS + "\n" + PASSWORD


class Papers:
    """What servers and clients have in their hands: files, named in configurations and URLs."""

    def __init__(self, folder: Path) -> None:
        authority, strangers = Authority(folder / "ours"), Authority(folder / "theirs", "strangers")
        accounts, key = Accounts(), Key()
        self.names: dict[str, object] = {
            "ca": authority.file,
            "other_ca": strangers.file,
            "creds": accounts.credentials(folder / "creds"),
            "expired_creds": accounts.credentials(folder / "expired_creds", seconds=-1),
            "other_creds": Accounts().credentials(folder / "other_creds"),
            "jwt": accounts.config,
            "nkey": key.public,
        }
        for name, certificate in (
            ("server", authority.certificate("server")),
            ("expired", authority.certificate("expired", days=-1)),
            ("elsewhere", authority.certificate("elsewhere", names="DNS:elsewhere.test")),
            ("shop", authority.certificate("shop")),
            ("stranger", strangers.certificate("stranger")),
        ):
            self.names |= {name: certificate.file, f"{name}_key": certificate.key}
        for name, data in (
            ("password", b"right-s3cret\n"),
            ("wrong_password", b"wrong-s3cret"),
            ("seed", key.seed),
            ("other_seed", Key().seed),
        ):
            (folder / name).write_bytes(data)
            self.names[name] = folder / name

    def url(self, server: EmbeddedNats, way: str) -> str:
        """A way such as `shop:right-s3cret@host?ca={ca}`, as a URL."""
        head, _, query = way.format(**self.names).partition("?")
        scheme, _, place = head.rpartition("://")
        who, at, host = place.rpartition("@")
        return f"{scheme or 'nats'}://{who}{at}{host or '127.0.0.1'}:{server.port}" + (f"?{query}" if query else "")

    def served(self, serve_nats: Serve, folder: Path, config: str, **more: Any) -> EmbeddedNats:
        """A server with a configuration."""
        file = folder / "server.conf"
        file.write_text(config.format(**self.names))
        return serve_nats(arguments=("-c", str(file)), **more)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates, keys and passwords, right and wrong."""
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.mark.parametrize(
    ("config", "way"),
    [
        (PASSWORD, "shop:right%2Ds3cret@"),
        (PASSWORD, "shop@?password_file={password}"),
        (TOKEN, "right-s3cret@"),
        (TOKEN, "?token_file={password}"),
        (NKEY, "?nkey={seed}"),
        (JWT, "?credentials={creds}"),
        (TLS, "?ca={ca}"),
        (TLS, "tls://localhost?ca={ca}"),
        (MUTUAL, "?ca={ca}&cert={shop}&key={shop_key}"),
        (BOTH, "shop:right-s3cret@?ca={ca}&tls=yes"),
        (BOTH, "tls://shop@?password_file={password}&ca={ca}"),
    ],
)
async def test_every_way_in_carries_messages(
    serve_nats: Serve, papers: Papers, tmp_path: Path, config: str, way: str
) -> None:
    """What the URL says is enough to declare, to publish and to consume."""
    server = papers.served(serve_nats, tmp_path, config)
    broker = JetStreamBroker(options_of(papers.url(server, way), name="t"))
    async with asyncio.timeout(DEADLINE):
        await broker.start()
        consumer = await open_consumer(broker, "secured")
        assert await broker.publish(counted("secured", range(3))) == {}
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
        await broker.ping()
        await broker.stop()
    assert SECRET not in repr(broker) + repr(broker.options) + repr(consumer)


@pytest.mark.parametrize(
    ("config", "way", "reason", "advice"),
    [
        (PASSWORD, "shop:wrong-s3cret@", "user 'shop' with its password", "Check how TORPOR_BROKER_URL"),
        (PASSWORD, "shop@?password_file={wrong_password}", "user 'shop'", "Check how TORPOR_BROKER_URL"),
        (PASSWORD, "wrong-s3cret@", "our token", "Check how TORPOR_BROKER_URL"),
        (PASSWORD, "", "who does not sign in", "Check how TORPOR_BROKER_URL"),
        (TOKEN, "wrong-s3cret@", "our token", "Check how TORPOR_BROKER_URL"),
        (NKEY, "?nkey={other_seed}", "the nkey in", "Check how TORPOR_BROKER_URL"),
        (JWT, "?credentials={expired_creds}", "the credentials in", "Check how TORPOR_BROKER_URL"),
        (JWT, "?credentials={other_creds}", "the credentials in", "Check how TORPOR_BROKER_URL"),
        (TLS, "?ca={other_ca}", "do not accept its certificate: unable to get local issuer", "with ca="),
        (TLS, "?tls=yes", "do not accept its certificate: unable to get local issuer", "with ca="),
        (TLS, "", "do not accept its certificate: unable to get local issuer", "with ca="),
        (EXPIRED, "?ca={ca}", "do not accept its certificate: certificate has expired", "Have it renewed"),
        (ELSEWHERE, "?ca={ca}", "certificate is not valid for '127.0.0.1'", "Name the server"),
        (ELSEWHERE, "localhost?ca={ca}", "certificate is not valid for 'localhost'", "Name the server"),
        (MUTUAL, "?ca={ca}", "wants a certificate of ours", "Give cert= and key="),
        (MUTUAL, "?ca={ca}&cert={stranger}&key={stranger_key}", "does not accept our certificate", "signed by"),
        (MUTUAL, "?ca={ca}&cert={expired}&key={expired_key}", "does not accept our certificate", "or renewed"),
        (BOTH, "shop:wrong-s3cret@?ca={ca}", "user 'shop' with its password", "Check how"),
        (PASSWORD, "shop:right-s3cret@?ca={ca}", "speaks no TLS here", "Leave tls, ca and cert out"),
        (PASSWORD, "tls://shop:right-s3cret@", "speaks no TLS here", "Leave tls, ca and cert out"),
    ],
)
async def test_a_wrong_way_in_is_told_with_advice(
    serve_nats: Serve, papers: Papers, tmp_path: Path, lines: list[str], config: str, way: str, reason: str, advice: str
) -> None:  # fmt: skip
    """The start ends soon with the address, what is wrong and what to do. No secret is in the error, its causes, the
    representations or the log."""
    server = papers.served(serve_nats, tmp_path, config)
    broker = JetStreamBroker(replace(options_of(papers.url(server, way), name="t"), connect_timeout=0.5))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(BrokerUnavailable, match=f":{server.port} cannot be reached: ") as caught:
            await broker.start()
        await broker.stop()
    told = str(caught.value)
    assert reason in told
    assert advice in told
    everything = "".join(traceback.format_exception(caught.value)) + repr(broker) + repr(broker.options)
    assert SECRET not in everything + "\n".join(lines)


@pytest.mark.parametrize("way", ["shop:right-s3cret@?ca={ca}", "right-s3cret@?tls=yes", "tls://shop:right-s3cret@"])
async def test_a_secret_is_not_sent_without_tls(papers: Papers, way: str) -> None:
    """Who stands in between and leaves TLS out of the server's greeting is not told the password, nor anything else."""
    heard: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.0","max_payload":1048576,"auth_required":true}\r\n')
        heard.append(await reader.read())
        writer.close()

    class Between:
        def __init__(self, port: int) -> None:
            self.port = port

    async with asyncio.timeout(DEADLINE), await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        url = papers.url(Between(listening.sockets[0].getsockname()[1]), way)  # type: ignore[arg-type]
        broker = JetStreamBroker(options_of(url, name="t"))
        with pytest.raises(BrokerUnavailable, match="speaks no TLS here"):
            await broker.start()
        await broker.stop()
        await until(lambda: heard)
    assert set(heard) == {b""}


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("nats://host?credentials={password}", "which is none. Expected a file with BEGIN NATS USER JWT"),
        ("nats://host?nkey={password}", "which is none. Expected a file with SU"),
        ("nats://host?credentials=/nowhere", "cannot be read: No such file"),
        ("nats://host?ca={password}", "holds no certificates"),
        ("nats://host?cert={shop}&key={password}", "cannot be used"),
        ("nats://host?cert={shop}&key={stranger_key}", "cannot be used"),
        ("nats://host?key={shop_key}", "key= without cert="),
        ("tls://host?tls=no", "Leave out one of them"),
        ("nats://me:s3cret@host?password_file={password}", "without a password"),
        ("nats://me:s3cret@host?token_file={password}", "Give one of"),
        ("nats://me:s3cret?@host", "has a '?' before its '@'"),
        ("nats://me:12,s3cret@host", "has a ',' before its '@'"),
        ("nats://me:s3cret", "is no NATS URL"),
        ("nats://host?pasword_file={password}", "Did you mean 'password_file'"),
    ],
)
def test_a_mistake_in_the_url_is_told_before_anything_is_opened(papers: Papers, way: str, told: str) -> None:
    """Each is named, with what was expected, and no secret."""
    with pytest.raises(ConfigurationError) as caught:
        options_of(way.format(**papers.names), name="t")
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


class Noticed(Event, topic=f"noticed.{uuid4().hex}"):
    number: int


async def test_a_service_waits_until_the_server_lets_it_in(
    serve_nats: Serve, papers: Papers, tmp_path: Path, lines: list[str]
) -> None:
    """A service that the server does not know, and whose certificate it does not trust, is not ready and says why. It
    goes on by itself once the server is mended. No secret is logged or shown."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = Service("listening")

    @service.on(Noticed)
    async def notice(event: Noticed) -> None: ...

    server = papers.served(serve_nats, tmp_path, EXPIRED, port=port)
    settings = Settings.read({"TORPOR_BROKER_URL": papers.url(server, "shop:right-s3cret@?ca={ca}")})
    (host,) = assemble([service], settings).hosts
    await host.start()
    try:
        for config, reason in (
            (EXPIRED, "certificate has expired"),
            (PASSWORD, "speaks no TLS"),
            (BOTH.replace("right-", "other-"), "user 'shop'"),
        ):
            server.stop()
            server = papers.served(serve_nats, tmp_path, config, port=port)
            await until(lambda reason=reason: reason in str(host.status()), host.status)  # type: ignore[misc]
            assert not host.is_ready
        server.stop()
        papers.served(serve_nats, tmp_path, BOTH, port=port)
        await until(lambda: host.is_ready, host.status)
    finally:
        await host.stop(5)
    assert SECRET not in "\n".join([*lines, repr(settings), str(host.status())])
