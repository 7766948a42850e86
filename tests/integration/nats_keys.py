"""Keys and credentials of NATS, as `nsc` makes them: an operator, an account with JetStream, users."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

import nkeys

if TYPE_CHECKING:
    from pathlib import Path

_OPERATOR, _ACCOUNT, _USER = nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER
_LIMITS = {
    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
}  # fmt: skip


class Key:
    """A pair of keys, and its seed."""

    def __init__(self, kind: int = _USER) -> None:
        self.seed: bytes = nkeys.encode_seed(os.urandom(32), kind)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def signed(self, subject: str, name: str, claims: dict[str, Any]) -> str:
        """A token about somebody, signed by this one."""
        told = {"jti": name, "iat": int(time.time()), "iss": self.public, "name": name, "sub": subject}
        head, body = _encoded({"typ": "JWT", "alg": "ed25519-nkey"}), _encoded({**told, "nats": claims})
        return f"{head}.{body}.{_base64(self._pair.sign(f'{head}.{body}'.encode()))}"


class Accounts:
    """An operator with an account that has JetStream; `config` is what the server is told of them."""

    def __init__(self) -> None:
        operator, system = Key(_OPERATOR), Key(_ACCOUNT)
        self._account = Key(_ACCOUNT)
        told = operator.signed(operator.public, "operator", {"type": "operator", "version": 2})
        of_system = {"type": "account", "version": 2, "limits": {**_LIMITS, "mem_storage": 0, "disk_storage": 0}}
        of_account = {"type": "account", "version": 2, "limits": _LIMITS}
        self.config = (
            f"operator: {told}\nsystem_account: {system.public}\nresolver: MEMORY\nresolver_preload: {{\n"
            f"{system.public}: {operator.signed(system.public, 'system', of_system)}\n"
            f"{self._account.public}: {operator.signed(self._account.public, 'shop', of_account)}\n}}\n"
        )

    def credentials(self, path: Path, *, seconds: float = 3600, **more: Any) -> Path:
        """A file with a user's token and seed. With `seconds=-1` it has expired."""
        user = Key()
        claims = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2, **more}
        told = self._account.signed(user.public, "user", claims)
        if seconds < 0:
            told = self._expired(user, claims)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{told}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return path

    def _expired(self, user: Key, claims: dict[str, Any]) -> str:
        head = _encoded({"typ": "JWT", "alg": "ed25519-nkey"})
        told = {"jti": "x", "iat": 1, "exp": 2, "iss": self._account.public, "name": "user", "sub": user.public}
        body = _encoded({**told, "nats": claims})
        return f"{head}.{body}.{_base64(self._account._pair.sign(f'{head}.{body}'.encode()))}"


def _encoded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
