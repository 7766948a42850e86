"""What Kafka's and aiokafka's errors mean: what is wrong, and what to do. Never a secret."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from torpor.adapters.kafka.options import KafkaOptions

_EXPIRED, _NOT_YET, _WRONG_HOST = 10, 9, frozenset({62, 64})  # OpenSSL's numbers of what is wrong with a certificate
_TLS_ALERT = 0x15


def told(error: BaseException) -> str:
    """An error in a few words."""
    text = str(error).strip().rstrip(".")
    name = type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}" if text else name


def principal_of(options: KafkaOptions) -> str:
    """Who we are, in the words of an ACL."""
    if options.user is not None:
        return f"User:{options.user}"
    return "the principal of our certificate" if options.has_certificate else "User:ANONYMOUS"


def forbidden(topic: str, options: KafkaOptions) -> str:
    """That we may not make a topic which may be there, hidden from us."""
    told = f"{principal_of(options)} may neither see topic {topic!r} nor make it"
    return f"{told}. Make it, and allow Describe, Read or Write on it; or allow Create"


def explained(error: BaseException, options: KafkaOptions, *, is_known: bool = False) -> str:
    """An error, and what to do about it, where we know that. A server that is known has let us in before."""
    for cause in _chain(error):
        for kinds, tell in _meanings(is_known=is_known):
            if isinstance(cause, kinds) and (meaning := tell(cause, options)):
                return meaning
    return told(error)


def _meanings(
    *, is_known: bool
) -> Iterator[tuple[tuple[type[BaseException], ...], Callable[[Any, KafkaOptions], str]]]:
    import ssl

    from aiokafka import errors

    yield (ssl.SSLCertVerificationError,), _of_certificate
    yield (ssl.SSLError,), _of_tls
    yield (errors.SaslAuthenticationFailed,), _of_password
    yield (errors.UnsupportedSaslMechanismError,), _of_mechanism
    yield (errors.IllegalSaslStateError,), _of_user
    yield (errors.TopicAuthorizationFailedError,), _of_topic
    yield (errors.GroupAuthorizationFailedError,), _of_group
    yield (errors.ClusterAuthorizationFailedError,), _of_cluster
    yield (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError), _of_size
    if not is_known:
        yield (asyncio.IncompleteReadError, ConnectionResetError), _of_hanging_up
        yield (errors.KafkaConnectionError,), _of_silence


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_certificate(error: ssl.SSLCertVerificationError, _: KafkaOptions) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in {_EXPIRED, _NOT_YET}:
        return f"we do not accept its certificate: {said}. Have it renewed there, and check the clocks"
    if error.verify_code in _WRONG_HOST:
        return f"we do not accept its certificate: {said}. Name the server in TORPOR_BROKER_URL as the certificate does"
    return (
        f"we do not accept its certificate: {said}. "
        "Name the file of the authority that has signed it with ca= in TORPOR_BROKER_URL"
    )


def _of_tls(error: ssl.SSLError, options: KafkaOptions) -> str:
    said = (error.reason or "TLS error").replace("_", " ").lower()
    if "certificate" not in said and "unknown ca" not in said:
        return f"TLS fails: {said}. Does it speak TLS on this port?"
    if not options.has_certificate:
        return f"it wants a certificate of ours ({said}). Give cert= and key= in TORPOR_BROKER_URL"
    return f"it does not accept our certificate ({said}). Have it signed by an authority that it trusts, or renewed"


def _of_password(error: BaseException, options: KafkaOptions) -> str:
    said = ", ".join(str(argument) for argument in error.args)
    told = f"it refuses user {options.user!r} by {options.mechanism} ({said})"
    return f"{told}. Check the user, the password and sasl= in TORPOR_BROKER_URL"


def _of_mechanism(_: BaseException, options: KafkaOptions) -> str:
    return f"it takes no {options.mechanism} on this port. Choose another way with sasl= in TORPOR_BROKER_URL"


def _of_user(_: BaseException, options: KafkaOptions) -> str:
    told = f"it asks for no user on this port, and was given {options.user!r}"
    return f"{told}. Leave user and password out of TORPOR_BROKER_URL, or take the port that asks for them"


def _of_topic(error: BaseException, options: KafkaOptions) -> str:
    return f"{principal_of(options)} has no permission for topic {_names(error)}. Allow it Describe, and Read or Write"


def _of_group(error: BaseException, options: KafkaOptions) -> str:
    return f"{principal_of(options)} has no permission for group {_names(error)}. Allow it Read"


def _of_cluster(_: BaseException, options: KafkaOptions) -> str:
    return f"{principal_of(options)} has no permission for what it asked of the cluster. Allow it Write on its topics"


def _of_size(_: BaseException, __: KafkaOptions) -> str:
    return "it is more than the topic takes. Send a reference instead, or raise its max.message.bytes"


def _names(error: BaseException) -> str:
    """What aiokafka gives the error: the name of the topic or of the group, or a sentence that ends with it."""
    names = {str(name).rpartition(" ")[2] for argument in error.args for name in _each(argument)}
    return ", ".join(map(repr, sorted(names)))


def _each(argument: object) -> Iterable[object]:
    return argument if isinstance(argument, (list, tuple, set, frozenset)) else (argument,)


def _of_hanging_up(error: BaseException, options: KafkaOptions) -> str:
    length = error.expected if isinstance(error, asyncio.IncompleteReadError) else None
    if options.tls is not None:
        return "it hung up on TLS. Leave tls, ca and cert out of TORPOR_BROKER_URL, or take its port for TLS"
    if length is not None and length >> 24 == _TLS_ALERT:  # what was taken for a length begins an alert
        return "it speaks TLS on this port. Write tls=yes into TORPOR_BROKER_URL, or ca= with its authority's file"
    return f"it hung up ({told(error)}). Is it Kafka?"


def _of_silence(error: BaseException, options: KafkaOptions) -> str:
    if "Unable to bootstrap" not in str(error):
        return ""
    if options.user is None:
        return (
            "it hung up on our first question. It may want a user: kafka://user:password@host:9092?sasl=SCRAM-SHA-512"
        )
    return "it hung up on our first question. Do its advertised listeners lead back to it?"
