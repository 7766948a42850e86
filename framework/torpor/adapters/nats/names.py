"""Names in JetStream for topics and groups: readable, safe for file systems, and never the same for two of ours."""

from __future__ import annotations

from hashlib import sha256

from torpor.kernel.errors import ConfigurationError

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LONGEST = 200  # the server takes 255 bytes, and a file name as well
_LONGEST_SUBJECT = 1024
_RESERVED = ("$", "_INBOX.")


def stream_of(topic: str) -> str:
    """The stream that holds a topic."""
    return _encoded(topic)


def durable_of(group: str, topic: str | None = None) -> str:
    """The durable consumer of a group; of its topic as well, in a stream that holds several."""
    return _encoded(group if topic is None else f"{group} {topic}")  # no topic has a space


def check_topic(topic: str) -> None:
    """Raises ConfigurationError when a topic cannot be a NATS subject."""
    reason = None
    if not topic or "" in topic.split("."):
        reason = "it has an empty part"
    elif any(character.isspace() or not character.isprintable() for character in topic):
        reason = "it has a space or a control character"
    elif "*" in topic or ">" in topic:
        reason = "it has a wildcard"
    elif topic.startswith(_RESERVED):
        reason = "the server keeps that name for itself"
    elif len(topic.encode()) > _LONGEST_SUBJECT:
        reason = f"it is longer than {_LONGEST_SUBJECT} bytes"
    if reason:
        raise ConfigurationError([f"Topic {topic[:80]!r} cannot be a NATS subject: {reason}. Write it as 'a.b-c'."])


def _encoded(name: str) -> str:
    """Lower-case letters, digits and '-' as they are, '.' as '_', every other byte as '=XX'. Reversible, so free of
    collisions, also where a file system ignores case."""
    text = "".join(
        c if c in _PLAIN else "_" if c == "." else "".join(f"={byte:02X}" for byte in c.encode()) for c in name
    )
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 34]}=-{sha256(name.encode()).hexdigest()[:32]}"
