"""How a broker lets us in, as the query of its URL says it. The adapters of brokers share this.

No message quotes what may be secret: of a URL only what is behind its '@', and of a file its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from torpor.kernel.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

TLS = ("tls", "ca", "cert", "key")
_YES, _NO = frozenset({"1", "yes", "true"}), frozenset({"0", "no", "false"})
_VARIABLE = "TORPOR_BROKER_URL"
_MOST = 32_767


def split_query(url: str) -> tuple[str, str]:
    """A URL's beginning and its query. Raises ConfigurationError when it is not clear where one ends."""
    head, _, query = url.partition("?")
    if "@" in query and "@" not in head:
        told = f"{_VARIABLE} has a '?' before its '@'. In a user or a password write %3F for '?', and %40 for '@'"
        raise ConfigurationError([f"{told}; or give the password in a file, with password_file=."])
    return head, query


class Query:
    """The query of a broker's URL, read by name. Mistakes are collected in `problems`."""

    def __init__(self, text: str, known: Sequence[str]) -> None:
        self._given = dict(parse_qsl(text, keep_blank_values=True))
        self.problems = [
            f"{_VARIABLE} has {unknown!r} in its query.{did_you_mean(unknown, known)} "
            f"Expected one of {', '.join(known)}."
            for unknown in self._given
            if unknown not in known
        ]

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str) -> str | None:
        """What is said of a name."""
        return self._given.get(name)

    def number(self, name: str) -> int | None:
        """A number from 1 on."""
        text = self._given.get(name)
        if text is None:
            return None
        if not text.isdigit() or not 0 < int(text) <= _MOST:
            self.problems.append(f"{_VARIABLE} has {name}={text!r}. Expected a number from 1 to {_MOST}.")
            return None
        return int(text)

    def file(self, name: str) -> Path | None:
        """A file that can be read."""
        text = self._given.get(name)
        if text is None:
            return None
        try:
            with Path(text).open("rb"):
                return Path(text)
        except OSError as error:
            self.problems.append(f"{_VARIABLE} has {name}={text!r}, which cannot be read: {error.strerror}.")
            return None

    def secret(self, name: str) -> str | None:
        """What a file holds, without the end of its last line."""
        path = self.file(name)
        if path is None:
            return None
        try:
            secret = path.read_text(encoding="utf-8").rstrip("\r\n")
        except ValueError:  # its text is the secret
            secret = ""
        if not secret:
            self.problems.append(f"{_VARIABLE} has {name}={str(path)!r}, which holds no text.")
        return secret or None

    def tls(self, *, is_asked: bool = False) -> ssl.SSLContext | None:
        """What TLS, ours and the server's certificates are to be. None when it is not asked for, here or elsewhere."""
        word = self._given.get("tls", "").lower()
        files = [name for name in TLS[1:] if name in self._given]
        if word not in _YES | _NO | {""}:
            self.problems.append(f"{_VARIABLE} has tls={word!r}. Expected yes or no.")
        elif (files or is_asked) and word in _NO:
            other = f"{files[0]}=" if files else "a scheme that means TLS"
            self.problems.append(f"{_VARIABLE} has tls={word} and {other}. Leave out one of them.")
        if self._given.get("key") is not None and "cert" not in self._given:
            self.problems.append(f"{_VARIABLE} has key= without cert=. Give the certificate that it belongs to.")
        return self._context() if files or is_asked or word in _YES else None

    def _context(self) -> ssl.SSLContext | None:
        import ssl

        ca, cert, key = (self._given.get(name) for name in ("ca", "cert", "key"))
        try:
            context = ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            self.problems.append(f"{_VARIABLE} has ca={ca!r}, which holds no certificates: {error}.")
            return None
        if cert is not None:
            try:
                context.load_cert_chain(cert, key, password="")  # none is asked for at the terminal
            except (OSError, ssl.SSLError) as error:
                named = f"cert={cert!r}" if key is None else f"cert={cert!r} and key={key!r}"
                told = "Expected a certificate in PEM, and its key, not encrypted, there or in the file of key="
                self.problems.append(f"{_VARIABLE} has {named}, which cannot be used: {error}. {told}.")
                return None
        return context

    def finish(self) -> None:
        """Raises what was found."""
        if self.problems:
            raise ConfigurationError(self.problems)
