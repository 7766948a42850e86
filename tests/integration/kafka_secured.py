"""An Apache Kafka that is closed: listeners of each kind, users, certificates, and permissions that are granted.

Who comes by `address`, without a name, and the users of `SUPER` may do everything; others what `grant` says.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tests.integration.certificates import Authority
from tests.integration.kafka_server import KafkaServer
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PASSWORDS = {"shop": "right-s3cret", "clerk": "clerk-s3cret", "odd": "s3cret ?#/@,:%é"}
_SHOP = ("orders", "inventory", "payments", "shipping", "notifications")
PASSWORDS |= {name: f"{name}-s3cret" for name in _SHOP}
SUPER = ("ANONYMOUS", "shop", "odd", "CN=shop")
PROTOCOLS = {
    "sasl": "SASL_PLAINTEXT",
    "tls": "SSL",
    "mutual": "SSL",
    "secure": "SASL_SSL",
    "expired": "SSL",
    "elsewhere": "SSL",
}
_TOPIC, _GROUP, _CLUSTER = 2, 3, 4
KINDS = {"topic": _TOPIC, "group": _GROUP, "cluster": _CLUSTER}
OPERATIONS = {"all": 2, "read": 3, "write": 4, "create": 5, "describe": 8, "describe_configs": 10, "idempotent": 12}
_ALLOW, _LITERAL, _ANY = 3, 3, 1
_KNOWN_SECONDS, _AGAIN_SECONDS = 20.0, 0.02


class SecuredKafka(KafkaServer):
    """One node with a listener for each of PROTOCOLS."""

    def __init__(self, directory: Path, *, settings: str = "") -> None:
        super().__init__(directory)
        self.authority = Authority(directory / "certificates")
        self.ports = {name: free_port() for name in PROTOCOLS}
        self.scram = {name: word for name, word in PASSWORDS.items() if name != "odd"}
        self.more = "\n".join([*self._listeners(), *self._users(), *self._certificates(), settings, ""])

    def url_of(self, listener: str, user: str = "", **query: object) -> str:
        """The URL of a listener, for a user with its password."""
        who = f"{user}:{quote(PASSWORDS[user], safe='')}@" if user else ""
        return (
            f"kafka://{who}127.0.0.1:{self.ports[listener]}?{urlencode({'partitions': 1, 'replication': 1, **query})}"
        )

    def _listeners(self) -> list[str]:
        known = [f"{name.upper()}://127.0.0.1:{port}" for name, port in self.ports.items()]
        ours = [f"CLIENT://{self.address}", f"BEHIND://127.0.0.1:{self.behind}"]
        protocols = ["CLIENT:PLAINTEXT", "BEHIND:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        protocols += [f"{name.upper()}:{protocol}" for name, protocol in PROTOCOLS.items()]
        return [
            f"listeners={','.join([*ours, *known, f'CONTROLLER://127.0.0.1:{self.controller}'])}",
            f"advertised.listeners={','.join([*ours, *known])}",
            f"listener.security.protocol.map={','.join(protocols)}",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            f"super.users={';'.join(f'User:{name}' for name in SUPER)}",
        ]

    def _users(self) -> list[str]:
        names = " ".join(f'user_{name}="{_escaped(word)}"' for name, word in PASSWORDS.items())
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        lines = ["sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"]
        for name in ("sasl", "secure"):
            lines.append(f"listener.name.{name}.plain.sasl.jaas.config={plain} {names};")
            lines += [f"listener.name.{name}.scram-sha-{bits}.sasl.jaas.config={scram}" for bits in (256, 512)]
        return lines

    def _certificates(self) -> list[str]:
        made = {
            "expired": self.authority.certificate("expired", days=-1),
            "elsewhere": self.authority.certificate("elsewhere", names="DNS:elsewhere.test"),
        }
        usual = self.authority.certificate("server")
        lines = []
        for name in [name for name, protocol in PROTOCOLS.items() if protocol.endswith("SSL")]:
            chain = self.directory / f"{name}.pem"
            chain.write_text(made.get(name, usual).chain)
            lines += [
                f"listener.name.{name}.ssl.keystore.type=PEM",
                f"listener.name.{name}.ssl.keystore.location={chain}",
                f"listener.name.{name}.ssl.truststore.type=PEM",
                f"listener.name.{name}.ssl.truststore.location={self.authority.file}",
            ]
        return [*lines, "listener.name.mutual.ssl.client.auth=required"]

    async def grant(self, principal: str, kind: str, name: str, *operations: str) -> None:
        """Lets somebody do something."""
        from aiokafka.protocol.admin import CreateAclsRequest

        async with self._admin() as admin:
            for operation in operations:
                request = CreateAclsRequest(
                    KINDS[kind], name, _LITERAL, f"User:{principal}", "*", OPERATIONS[operation], _ALLOW
                )
                answer = await admin._send_to_controller(request)
                assert [code for code, _ in answer.creation_responses] == [0], answer
            await _until_known(admin, principal, kind, name, {OPERATIONS[operation] for operation in operations})

    async def revoke(self, principal: str, kind: str, name: str) -> None:
        """Takes away all that was granted."""
        from aiokafka.protocol.admin import DeleteAclsRequest

        async with self._admin() as admin:
            request = DeleteAclsRequest(KINDS[kind], name, _LITERAL, f"User:{principal}", "*", _ANY, _ALLOW)
            answer = await admin._send_to_controller(request)
            assert [response[0] for response in answer.filter_responses] == [0], answer
            await _until_known(admin, principal, kind, name, None)

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        yield admin
        await admin.close()

    def change(self, old: str, new: str) -> None:
        """Changes the settings of a server that is stopped."""
        text = self._settings.read_text()
        assert old in text
        self._settings.write_text(text.replace(old, new))


def _escaped(word: str) -> str:
    """As a file of properties has it, which is Latin-1."""
    return "".join(sign if sign.isascii() else f"\\u{ord(sign):04x}" for sign in word)


async def _until_known(admin: Any, principal: str, kind: str, name: str, wanted: set[int] | None) -> None:
    """Waits until the node itself knows what its controller has written: so many operations granted, or none at all."""
    from aiokafka.protocol.admin import DescribeAclsRequest

    request = DescribeAclsRequest(KINDS[kind], name, _LITERAL, f"User:{principal}", "*", _ANY, _ALLOW)
    async with asyncio.timeout(_KNOWN_SECONDS):
        while True:
            answer = await admin._send_request(request)
            known = {operation for resource in answer.resources for *_, operation, _ in resource[-1]}
            if wanted <= known if wanted is not None else not known:
                return
            await asyncio.sleep(_AGAIN_SECONDS)
