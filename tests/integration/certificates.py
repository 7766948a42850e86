"""An authority of the tests' own, and the certificates that it signs. It needs openssl."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HERE = "DNS:localhost, IP:127.0.0.1"
_CONFIG = """[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class Certificate(NamedTuple):
    """The files of a certificate and of its key."""

    file: Path
    key: Path

    @property
    def chain(self) -> str:
        """Both, as Kafka takes them in one file."""
        return self.key.read_text() + self.file.read_text()


class Authority:
    """Signs certificates. Those who trust it are given `file`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl, which makes certificates (Debian: apt install openssl)")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.file, self._key = self._request(name, HERE, "-x509", "-extensions", "authority", "-days", "30")

    def certificate(self, name: str, *, names: str = HERE, days: int = 30) -> Certificate:
        """A certificate for a client of that name, and for a server with some names. With `days=-1` it has expired."""
        request, key = self._request(name, names, suffix="csr")
        file = self._folder / f"{name}.pem"
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial",
                 "-days", days, "-extfile", self._config(name), "-extensions", "leaf", "-out", file)  # fmt: skip
        return Certificate(file, key)

    def _request(self, name: str, names: str, *more: str, suffix: str = "pem") -> Certificate:
        file, key = self._folder / f"{name}.{suffix}", self._folder / f"{name}.key"
        self._config(name).write_text(_CONFIG.format(names=names))
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-config", self._config(name), "-out", file, *more)
        return Certificate(file, key)

    def _config(self, name: str) -> Path:
        return self._folder / f"{name}.conf"


def _openssl(*arguments: object) -> None:
    told = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
