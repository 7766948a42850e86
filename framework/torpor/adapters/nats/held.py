"""What a consumer was given and has not settled, with the subjects that settle it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Key = bytes  # the sequence and the time in the stream: no two messages share both, also after it was made again

ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"

_MOST_REMEMBERED = 4_000
_LONG_REPLY = 11


class Held:
    """The unsettled deliveries of one consumer.

    A message that comes again while it is in hand only replaces its reply subject, and one that was acknowledged
    already is acknowledged again: neither is handed out twice by the same consumer.
    """

    def __init__(self) -> None:
        self._replies: dict[Key, bytes] = {}
        self._old: set[Key] = set()  # in hand since the last turn
        self._acknowledged: deque[Key] = deque(maxlen=_MOST_REMEMBERED)
        self._known: set[Key] = set()  # acknowledged, and perhaps unheard

    def __len__(self) -> int:
        return len(self._replies)

    def take(self, key: Key, reply: bytes) -> bool:
        """Takes a delivery into hand. Whether it is a new one."""
        is_new = key not in self._replies
        self._replies[key] = reply
        return is_new

    def is_settled(self, key: Key) -> bool:
        """Whether a message that comes again was acknowledged before. Told once."""
        if key not in self._known:
            return False
        self._known.discard(key)
        return True

    def let_go(self, keys: Iterable[Key], *, acknowledged: bool = False) -> list[bytes]:
        """Lets deliveries go, and returns the reply subjects of those that were in hand."""
        replies = self._replies
        found = [key for key in dict.fromkeys(keys) if key in replies]
        if acknowledged:
            self._acknowledged.extend(found)
        return [replies.pop(key) for key in found]

    def let_all_go(self) -> list[bytes]:
        """Lets everything go, in order."""
        return self.let_go(sorted(self._replies, key=lambda key: int(sequence_of(key))))

    def recall(self) -> None:
        """Prepares for what comes again: acknowledgements may have been lost, or forgotten by the server."""
        self._known = set(self._acknowledged)

    def turn(self) -> list[bytes]:
        """The reply subjects of what was in hand at the last turn already."""
        lasting = [self._replies[key] for key in self._old if key in self._replies]
        self._old = set(self._replies)
        return lasting


def key_of(reply: bytes) -> Key:
    """What identifies a message: $JS.ACK.[domain.account.]stream.consumer.delivered.SEQUENCE.sequence.TIME.pending"""
    parts = reply.split(b".")
    at = 5 if len(parts) < _LONG_REPLY else 7
    return b"%b %b" % (parts[at], parts[at + 2])


def sequence_of(key: Key) -> str:
    """The sequence in a key."""
    return key.partition(b" ")[0].decode()
