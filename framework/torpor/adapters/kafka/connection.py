"""What is shared by all that talk to one Kafka: how to make a client, the one for administration, and its errors.

FastStream's broker knows how to reach and to secure a client: `connect` gives what builds one. Ours are built, started
and stopped here, because a producer that may hold late messages must be given up without the consumers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Any

from torpor.adapters.kafka.refusals import explained
from torpor.kernel.errors import BrokerUnavailable, NotRunning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient
    from faststream.security import BaseSecurity

    from torpor.adapters.kafka.options import KafkaOptions

_logger = logging.getLogger("torpor.kafka")
_FAREWELL_SECONDS = 5.0
_WAYS = frozenset(
    {
        "client_id",
        "request_timeout_ms",
        "sasl_mechanism",
        "sasl_plain_password",
        "sasl_plain_username",
        "security_protocol",
        "ssl_context",
    }
)


class Connection:
    """Builds clients of one Kafka, and holds the one for administration."""

    def __init__(self, options: KafkaOptions) -> None:
        self.options = options
        self._build: functools.partial[AIOKafkaConsumer] | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._lost_at: float | None = None  # the loop's time

    @property
    def servers(self) -> str:
        """Where it is, for people."""
        return ", ".join(self.options.servers)

    async def start(self) -> None:
        """Finds the cluster. Raises BrokerUnavailable within the connect timeout."""
        if self._admin is not None:
            return
        await self._prepare()
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(**self._known)
        try:
            async with self.mapped("cannot be reached", self.options.connect_timeout):
                await self._knock()
                await admin.start()
        except BaseException:
            await admin.close()
            raise
        self._admin = admin

    async def stop(self) -> None:
        """Closes what is open. Repeatable."""
        admin, self._admin = self._admin, None
        self._lost_at = None
        await asyncio.gather(*self._farewells, return_exceptions=True)  # aiokafka cancels what takes leave at times
        if admin is not None:
            await admin.close()

    @property
    def admin(self) -> AIOKafkaAdminClient:
        """The client for administration. Raises NotRunning."""
        if self._admin is None:
            raise NotRunning(f"The connection to Kafka at {self.servers} is not started.")
        return self._admin

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        """A new consumer, not started. It commits what it is told to, and nothing by itself."""
        if self._build is None or self._admin is None:
            raise NotRunning(f"The connection to Kafka at {self.servers} is not started.")
        return self._build(enable_auto_commit=False, auto_offset_reset="earliest", **options)

    def producer(self) -> AIOKafkaProducer:
        """A new producer, not started, that stores each message once and in order."""
        from aiokafka import AIOKafkaProducer

        known = dict(self._known)
        return AIOKafkaProducer(**known, acks="all", enable_idempotence=True, max_batch_size=self.options.batch_bytes)

    async def ping(self) -> None:
        """Asks for a sign of life. Raises BrokerUnavailable."""
        admin = self.admin
        async with self.mapped("does not answer"):
            await admin.describe_topics([])  # the cheapest question: describe_cluster asks for every topic
        self._found()

    @contextlib.asynccontextmanager
    async def mapped(self, what: str, seconds: float | None = None) -> AsyncIterator[None]:
        """Turns aiokafka's errors into BrokerUnavailable, and ends after a time."""
        from aiokafka.errors import BrokerResponseError, KafkaError

        try:
            async with asyncio.timeout(seconds or self.options.request_timeout):
                yield
        except TimeoutError as error:
            self._lost("no answer in time")
            raise BrokerUnavailable(f"Kafka at {self.servers} {what}: no answer in time.") from error
        except (KafkaError, OSError) as error:
            reason = self.explained(error)
            if not isinstance(error, BrokerResponseError):
                self._lost(reason)
            raise BrokerUnavailable(f"Kafka at {self.servers} {what}: {reason}.") from error

    def _lost(self, reason: str) -> None:
        """Tells once that nobody answers. Whatever is under way fails by itself, and is tried again."""
        if self._admin is not None and self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
            _logger.warning("Lost the connection to Kafka at %s: %s. Trying again.", self.servers, reason)

    def _found(self) -> None:
        """Tells once that somebody answers again."""
        if self._lost_at is not None:
            took, self._lost_at = asyncio.get_running_loop().time() - self._lost_at, None
            _logger.warning("Connected to Kafka at %s again after %.1f s.", self.servers, took)

    def explained(self, error: BaseException) -> str:
        """What an error of aiokafka's means, without a secret and without a full stop."""
        return explained(error, self.options, is_known=self._admin is not None)

    def leave(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what takes leave of a client to its end, at the latest when the connection stops."""

        async def limited() -> None:
            with contextlib.suppress(Exception):  # the client is given up, whatever it says
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await work

        task = asyncio.create_task(limited())
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _knock(self) -> None:
        """Connects to the first server that answers, because aiokafka's own start would not tell why none does."""
        from aiokafka.conn import create_conn
        from aiokafka.errors import KafkaError

        ways = {name: value for name, value in self._known.items() if name in _WAYS}
        for server in reversed(self.options.servers):
            host, _, port = server.rpartition(":")
            try:
                (await create_conn(host.strip("[]"), int(port), **ways)).close()
            except (KafkaError, OSError):
                if server is self.options.servers[0]:
                    raise
            else:
                return

    @property
    def _known(self) -> dict[str, Any]:
        """How any client reaches the cluster, as FastStream puts it."""
        return {} if self._build is None else dict(self._build.keywords)

    async def _prepare(self) -> None:
        """Has FastStream say how to build clients. It imports it the first time, which no timeout counts."""
        if self._build is not None:
            return
        from faststream.kafka import KafkaBroker

        _quieten()
        options = self.options
        host = KafkaBroker(
            list(options.servers),
            client_id=options.name,
            security=_security(options),
            request_timeout_ms=int(options.request_timeout * 1000),
            metadata_max_age_ms=int(options.metadata_age * 1000),
            consumer_only=True,  # it opens nothing by itself
            logger=None,
        )
        build = await host.connect()
        if not isinstance(build, functools.partial):
            raise TypeError(f"FastStream's connect() gave {build!r}; expected a partial that builds consumers.")
        self._build = build

    def __repr__(self) -> str:
        return f"<Connection to Kafka at {self.servers}{'' if self._admin else ' stopped'}>"


def _quieten() -> None:
    """Keeps aiokafka from some thirty lines a second while a broker is away. What it says in them is raised."""
    logger = logging.getLogger("aiokafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def _security(options: KafkaOptions) -> BaseSecurity:
    from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

    if options.user is None:
        return BaseSecurity(ssl_context=options.tls, use_ssl=options.tls is not None)
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kinds[options.mechanism](
        options.user, options.password or "", ssl_context=options.tls, use_ssl=options.tls is not None
    )
