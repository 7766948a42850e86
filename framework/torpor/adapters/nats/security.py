"""How we sign in to NATS, what of it is kept from whom, and what a refusal means.

nats-py goes on in the clear with a server that does not ask for TLS, whatever it was told: with a server that is set
wrong, or with whoever stands in between. It asks for the password only when it is about to send it, though.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from faststream.nats.security import NatsSecurity

    from torpor.adapters.nats.options import Servers

_SIGN_IN = "Check how TORPOR_BROKER_URL signs in, and whom the server knows"
_TLS_ASKED = "Leave tls, ca and cert out of TORPOR_BROKER_URL, or take the server's port for TLS"

_NO_TLS = (
    "it speaks no TLS here, and TLS is asked for. Leave tls, ca and cert out of TORPOR_BROKER_URL, or set it up there"
)


class _Guard:
    """Knows whether the connection that is being made is encrypted. A context is watched by one guard."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._is_closed = context is not None
        self.is_encrypted = False
        if context is not None:
            context.sslobject_class = _watched(self)

    def begin(self) -> None:
        """Forgets what was: another connection is made."""
        self.is_encrypted = False

    def check(self) -> None:
        """Raises an error of nats-py's, for which it closes the connection, when TLS is asked for and is not there."""
        if self._is_closed and not self.is_encrypted:
            from nats.errors import Error

            raise Error(_NO_TLS)

    def guarded(self, secret: str) -> Callable[[], str]:
        """Gives a secret away only to a connection that may have it."""

        def give() -> str:
            self.check()
            return secret

        return give


def _watched(guard: _Guard) -> type[ssl.SSLObject]:
    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            guard.is_encrypted = True

    return Watched


class Security:
    """Signs in, by FastStream's objects. With TLS asked for nothing secret is sent without it."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._guard = _Guard(servers.options.tls)

    def begin(self) -> None:
        """A server was given up; what comes is another connection."""
        self._guard.begin()

    def check(self) -> None:
        """Raises an error of nats-py's when the connection is not as it was asked for."""
        self._guard.check()

    def signing_in(self) -> NatsSecurity:
        """What FastStream is told."""
        from faststream.nats import NatsCredentials, NatsNKey, NatsSecurity, NatsToken, NatsUserPassword

        self.begin()
        servers, options = self._servers, self._servers.options
        tls: dict[str, Any] = {"ssl_context": options.tls, "tls_hostname": options.tls_hostname}
        try:
            if options.credentials is not None:
                return NatsCredentials.from_file(options.credentials, **tls)
            if options.nkey is not None:
                return NatsNKey.from_file(options.nkey, **tls)
        except ImportError as error:
            raise ConfigurationError(["NATS credentials and nkeys need 'nkeys'. Install torpor[nats]."]) from error
        if servers.user is not None and servers.password is not None:
            password: Any = self._guard.guarded(servers.password)  # nats-py takes what gives it, when it is needed
            return NatsUserPassword(servers.user, password, **tls)
        if servers.token is not None:
            return NatsToken(self._guard.guarded(servers.token), **tls)
        return NatsSecurity(**tls)

    def explained(self, reason: str) -> str:
        """What a refusal means and what to do, where we know that; without a full stop."""
        for pattern, tell in _MEANINGS:
            if re.search(pattern, reason, re.IGNORECASE):
                return tell(self._servers, reason)
        return reason


def _signer(servers: Servers) -> str:
    """Who signs in, without a secret."""
    options = servers.options
    if servers.user is not None:
        return f"user {servers.user!r} with its password"
    if servers.token is not None:
        return "our token"
    if options.credentials is not None:
        return f"the credentials in {str(options.credentials)!r}"
    return "who does not sign in" if options.nkey is None else f"the nkey in {str(options.nkey)!r}"


def _of_sign_in(servers: Servers, reason: str) -> str:
    return f"it refuses {_signer(servers)} ({reason}). {_SIGN_IN}"


def _of_certificate(_: Servers, reason: str) -> str:
    said = reason.partition("certificate verify failed: ")[2].partition(" (_ssl")[0].rstrip(".") or reason
    if "expired" in said or "not yet valid" in said:
        advice = "Have it renewed there, and check the clocks"
    elif "mismatch" in said or "not valid for" in said:
        advice = "Name the server in TORPOR_BROKER_URL as the certificate does"
    else:
        advice = "Name the file of the authority that has signed it with ca= in TORPOR_BROKER_URL"
    return f"we do not accept its certificate: {said}. {advice}"


def _of_our_certificate(servers: Servers, reason: str) -> str:
    if not servers.options.has_certificate:
        return f"it wants a certificate of ours ({reason}). Give cert= and key= in TORPOR_BROKER_URL"
    return f"it does not accept our certificate ({reason}). Have it signed by an authority that it trusts, or renewed"


def _of_plain_tls(_: Servers, reason: str) -> str:
    return f"TLS fails ({reason}). {_TLS_ASKED}"


def _of_hanging_up(servers: Servers, reason: str) -> str:
    if servers.options.tls is not None and not servers.options.has_certificate:
        return (
            f"it hung up on our greeting ({reason}). It wants a certificate of ours, or refuses {_signer(servers)}. "
            f"Give cert= and key= in TORPOR_BROKER_URL, or check how it signs in, and whom the server knows"
        )
    return f"it hung up on our greeting ({reason}), and may refuse {_signer(servers)}. {_SIGN_IN}"


_MEANINGS: tuple[tuple[str, Callable[[Servers, str], str]], ...] = (
    (r"certificate verify failed", _of_certificate),
    (r"alert.*(certificate|unknown ca)|certificate required", _of_our_certificate),
    (r"authorization violation|user authentication|authentication (timeout|expired|revoked)", _of_sign_in),
    (r"wrong version number|\[ssl", _of_plain_tls),
    (r"reset by peer|broken pipe", _of_hanging_up),
)
