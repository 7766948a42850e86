"""The shelf on NATS: a key-value bucket of the service, on the connection of its broker."""

from __future__ import annotations

import asyncio
import json
import math
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from torpor.adapters.nats.connection import API
from torpor.adapters.nats.frames import STATUS, head_of
from torpor.adapters.nats.names import stream_of
from torpor.adapters.nats.streams import check
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError, Rejected
from torpor.ports.shelf import ABSENT, Placed, ShelfPromises, check_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from torpor.adapters.nats.connection import Connection
    from torpor.adapters.nats.frames import Answer

MOST_BYTES = 268_435_456
LEVEL, SINCE = 1, "nats-server 2.11"  # of JetStream's API, which knows a time to live for each message
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:")
_LONGEST = 200
_OPERATION, _SEQUENCE = "KV-Operation", "Nats-Sequence"
_EXPECTED, _TTL = "Nats-Expected-Last-Subject-Sequence", "Nats-TTL"
_NAME_TAKEN = 10058
_WRONG_REVISION = frozenset({10071, 10164})
_GONE = frozenset({"503"})  # nobody listens: there is no such bucket
_MARKED = 2.0  # seconds that a removal is remembered, so that who was about to put in its place learns of it


class JetStreamShelf:
    """A bucket, declared when it is first asked. What lies there has a time to live in whole seconds, of the server's
    clock. When there is no room, what was put first gives way."""

    def __init__(self, connection: Connection, start: Callable[[], Awaitable[None]]) -> None:
        is_file = connection.options.storage == "file"
        self.promises = ShelfPromises(is_shared=True, is_persistent=is_file, resolution=2.0)
        self._connection = connection
        self._start = start
        self._bucket = bucket_of(connection.options.name)
        self._opening = asyncio.Lock()
        self._is_open = False

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        found = await asyncio.gather(*(self._get(key) for key in keys))
        return {
            key: Placed(answer.data, sequence)
            for key, (answer, sequence) in zip(keys, found, strict=True)
            if sequence and _OPERATION not in answer.headers
        }

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        check_size(key, value)
        given = await self._put(key, value, seconds=seconds, revision=revision)
        if given is None and revision == ABSENT:  # a removal may be remembered there
            answer, sequence = await self._get(key)
            if sequence and _OPERATION in answer.headers:
                return await self._put(key, value, seconds=seconds, revision=sequence)
        return given

    async def remove(self, keys: Sequence[str]) -> None:
        removal = {_OPERATION: "DEL"}
        await asyncio.gather(*(self._put(key, b"", seconds=_MARKED, headers=removal) for key in keys))

    async def _get(self, key: str) -> tuple[Answer, int]:
        """The last message of a key and its number, or 0."""
        answer = await self._asked(f"{API}.DIRECT.GET.KV_{self._bucket}.{self._subject(key)}", b"")
        return answer, int(answer.headers.get(_SEQUENCE, 0))

    async def _put(
        self,
        key: str,
        value: bytes,
        *,
        seconds: float,
        revision: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int | None:
        told = {_TTL: f"{max(1, math.ceil(seconds))}s", **(headers or {})}
        if revision is not None:
            told[_EXPECTED] = str(revision)
        data = (await self._asked(self._subject(key), value, told)).data
        if not data:  # a status alone
            raise BrokerUnavailable(f"The bucket {self._bucket!r} of NATS confirms nothing.")
        answer = json.loads(data)
        error = answer.get("error")
        if not error:
            return int(answer["seq"])
        if error.get("err_code") in _WRONG_REVISION:
            return None
        raise BrokerUnavailable(f"The bucket {self._bucket!r} of NATS refuses a value: {error.get('description')}.")

    async def _asked(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer of the bucket, which is declared if it is not there."""
        await self._open()
        for _ in range(2):
            answer = await self._ask(subject, payload, headers)
            if answer.headers.get(STATUS) not in _GONE:
                return answer
            self._is_open = False  # somebody has removed it
            await self._open()
        raise BrokerUnavailable(f"The bucket {self._bucket!r} of NATS does not answer.")

    async def _ask(self, subject: str, payload: bytes, headers: Mapping[str, str] | None) -> Answer:
        if headers is None:
            return await self._connection.ask(subject, payload)
        head = head_of(headers)
        client = self._connection.client
        if len(head) + len(payload) > client.max_payload:
            raise Rejected(
                f"A value of {len(payload)} bytes is over the max_payload of NATS, which is {client.max_payload}. Put "
                "less on the shelf, or raise it there."
            )
        return await self._connection.ask(subject, payload, head=head)

    async def _open(self) -> None:
        """Connects, and declares the bucket."""
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._start()
                await self._declare()
                self._is_open = True

    async def _declare(self) -> None:
        level = ((await self._connection.request("INFO")).get("api") or {}).get("level", 0)
        if level < LEVEL:
            told = f"NATS at {self._connection.servers} is too old to share what has a time to live"
            raise ConfigurationError([f"{told}: it needs {SINCE} or newer. Upgrade it, or set TORPOR_SHARED=database."])
        config = config_of(self._bucket, storage=self._connection.options.storage,
                           replicas=self._connection.options.replicas)  # fmt: skip
        answer = await self._connection.request(f"STREAM.CREATE.{config['name']}", config)
        if (answer.get("error") or {}).get("err_code") == _NAME_TAKEN:
            answer = await self._connection.request(f"STREAM.INFO.{config['name']}")
            there = answer.get("config") or config
            wanted = ("subjects", "allow_direct", "allow_msg_ttl", "max_msgs_per_subject")
            if wrong := [name for name in wanted if there.get(name) != config[name]]:
                told = f"The stream {config['name']!r} of NATS is none that Torpor made: its {', '.join(wrong)} differ"
                raise ConfigurationError([f"{told}. Remove it, or give the service another name."])
        check(answer, f"The bucket {self._bucket!r}")

    def _subject(self, key: str) -> str:
        return f"$KV.{self._bucket}.{token_of(key)}"

    def __repr__(self) -> str:
        return f"<JetStreamShelf {self._bucket} on {self._connection!r}>"


def config_of(bucket: str, *, storage: str, replicas: int) -> dict[str, Any]:
    """The settings of a bucket's stream."""
    return {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "discard": "old",
        "storage": storage,
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "max_bytes": MOST_BYTES,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }


def bucket_of(service: str) -> str:
    """The bucket of a service."""
    return f"torpor-shelf-{stream_of(service)}"


def token_of(key: str) -> str:
    """A key as a part of a subject: itself, or a digest of one that is long or unusual."""
    if key and len(key) <= _LONGEST and _PLAIN.issuperset(key):
        return key
    return f"={sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
