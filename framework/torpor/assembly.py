"""From settings to adapters. The only module that names adapters, and it imports them late."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from torpor import __version__
from torpor.features.cleanup import Cleanup
from torpor.features.hinting import Hinter
from torpor.features.redrive import Redriver
from torpor.features.relay import Relay
from torpor.features.ticking import Ticker
from torpor.features.timers import Timekeeper
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.binding import bind
from torpor.runtime.host import Duty, Host
from torpor.runtime.lease import Lease
from torpor.runtime.plan import Plan
from torpor.runtime.settings import REPLAY_SECONDS, Settings
from torpor.runtime.topology import topology_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.adapters.memory.broker import MemoryHub
    from torpor.ports.broker import Broker
    from torpor.ports.clock import Clock
    from torpor.ports.store import Store
    from torpor.runtime.service import Service


class Deployment:
    """Services that run together: in one process, behind one address."""

    def __init__(self, plans: Sequence[Plan], settings: Settings, *, hosts: Sequence[Host]) -> None:
        self.plans = tuple(plans)
        self.settings = settings
        self.hosts = tuple(hosts)
        self._app: Any = None

    @property
    def app(self) -> Any:
        """The ASGI application of all the services, made on first use."""
        if self._app is None:
            self._app = _app(self)
        return self._app

    async def migrate(self) -> Mapping[str, Sequence[str]]:
        """Brings each service's tables up to date; returns what was applied."""
        return {host.name: await host.store.migrate(host.plan.service.migrations()) for host in self.hosts}

    async def start(self) -> None:
        """Starts the services; they come up in the background."""
        if (self.settings.database_url or "").startswith("memory:"):
            await self.migrate()
        for host in self.hosts:
            await host.start()

    async def retire(self) -> None:
        """Takes no message more; requests are still answered."""
        await asyncio.gather(*(host.retire() for host in self.hosts))

    async def stop(self, seconds: float | None = None) -> None:
        """Drains and stops them all, within so many seconds or those of the settings."""
        limit = self.settings.drain_seconds if seconds is None else seconds
        await asyncio.gather(*(host.stop(limit) for host in self.hosts))


def plans_of(services: Sequence[Service]) -> list[Plan]:
    """Binds services; raises ConfigurationError with the mistakes of all, and of what is between them."""
    plans: list[Plan] = []
    problems: list[str] = []
    for service in services:
        try:
            plans.append(bind(service))
        except ConfigurationError as error:
            problems += error.problems
    problems += topology_of(plans).problems()
    if problems:
        raise ConfigurationError(problems)
    return plans


def assemble(services: Sequence[Service], settings: Settings) -> Deployment:
    """Services with the broker and the databases that the settings name. Opens nothing."""
    return _assemble(plans_of(services), settings, lambda plan: duties_of(plan, settings.replay_seconds))


def assemble_keeper(services: Sequence[Service], settings: Settings) -> Deployment:
    """The keeper's duties for the databases of services, without their handlers. Opens nothing."""
    if settings.database_url is None:
        problem = (
            "TORPOR_DATABASE_URL is not set, and a keeper works for databases. "
            "Set it to those of the services, for example postgresql://host/db?schema={service}."
        )
        raise ConfigurationError([problem])
    plans = [_HandlerlessPlan(plan) for plan in plans_of(services)]
    return _assemble(plans, settings, lambda _: keeper_duties(settings.replay_seconds))


class _HandlerlessPlan(Plan):
    """A service of which only the topics are known."""

    __slots__ = ("_topics",)

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.service, subscribers=(), routes=(), tickers=(), lifespans=())
        self._topics = plan.topics

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the handlers."""
        return self._topics


def _assemble(plans: Sequence[Plan], settings: Settings, duties: Callable[[Plan], Sequence[Duty]]) -> Deployment:
    from torpor.adapters.system.clock import SystemClock

    problems = [problem for plan in plans for problem in _missing(plan, settings)] + _shared(plans, settings)
    if problems:
        raise ConfigurationError(problems)
    clock = SystemClock()
    open_broker = _brokers(settings)
    hosts = []
    for plan in plans:
        broker = open_broker(plan.name)
        store = _store_of(plan, settings, broker=broker, clock=clock)
        hosts.append(Host(plan, broker=broker, store=store, clock=clock, duties=duties(plan)))
    return Deployment(plans, settings, hosts=hosts)


def assemble_in_memory(services: Sequence[Service], *, hub: MemoryHub, clock: Clock) -> Deployment:
    """Services on one broker in memory, each with a SQLite database in memory: what a test runs on."""
    from torpor.adapters.memory.broker import MemoryBroker
    from torpor.adapters.sqlite.store import SqliteStore

    settings = Settings.read({"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "memory://"})
    plans = plans_of(services)
    hosts = [
        Host(
            plan,
            broker=MemoryBroker(hub),
            store=SqliteStore(":memory:", clock),
            clock=clock,
            duties=duties_of(plan),
        )
        for plan in plans
    ]
    return Deployment(plans, settings, hosts=hosts)


def duties_of(plan: Plan, replay_seconds: float = REPLAY_SECONDS) -> list[Duty]:
    """The background work that a service needs: the keeper's, and what each process does for its handlers."""
    duties = [*keeper_duties(replay_seconds), Redriver()]
    if plan.tickers:
        duties.append(Ticker())
    return duties


def keeper_duties(replay_seconds: float = REPLAY_SECONDS) -> list[Duty]:
    """The background work that one process at a time does for a database, under one lease."""
    lease = Lease()
    relay, timekeeper = Relay(lease), Timekeeper(lease)

    def wake() -> None:
        relay.wake()
        timekeeper.wake()

    return [relay, timekeeper, Cleanup(lease, replay_seconds=replay_seconds), Hinter(lease, wake=wake)]


def open_store(database_url: str, service: str) -> Store:
    """The database of a service, not yet started."""
    from torpor.adapters.system.clock import SystemClock

    return _open_store(database_url, service, SystemClock())


def _missing(plan: Plan, settings: Settings) -> list[str]:
    problems = []
    if plan.topics and settings.broker_url is None:
        problems.append(
            f"Service {plan.name!r} publishes or listens to {plan.topics[0]!r}, and TORPOR_BROKER_URL is not set. "
            "Set it, for example nats://localhost:4222 or kafka://localhost:9092."
        )
    if plan.needs_store and settings.database_url is None:
        problems.append(
            f"Service {plan.name!r} asks for Tx, and TORPOR_DATABASE_URL is not set. "
            "Set it, for example sqlite:////var/lib/app/{service}.db."
        )
    return problems


def _shared(plans: Sequence[Plan], settings: Settings) -> list[str]:
    url = settings.database_url or "memory:"
    if len(plans) == 1 or url.startswith("memory:") or "{service}" in url:
        return []
    names = ", ".join(plan.name for plan in plans)
    told = f"TORPOR_DATABASE_URL names one database for {names}, and each service has its own. "
    return [
        told
        + "Put {service} into the URL: sqlite:////var/lib/app/{service}.db, or postgresql://host/db?schema={service}."
    ]


def _brokers(settings: Settings) -> Callable[[str], Broker]:
    """How each service gets its broker."""
    url = settings.broker_url or "memory://"
    if url.startswith("memory:"):
        from torpor.adapters.memory.broker import MemoryBroker, MemoryHub

        hub = MemoryHub()
        return lambda service: MemoryBroker(hub)  # noqa: ARG005  # all share one hub
    if url.startswith("kafka:"):
        from torpor.adapters.kafka.broker import KafkaBroker
        from torpor.adapters.kafka.options import options_of

        if find_spec("aiokafka") is None:
            raise ConfigurationError(["kafka:// needs FastStream and aiokafka. Install torpor[kafka]."])
        options_of(url, name="torpor")  # tells what is wrong with it
        return lambda service: KafkaBroker(options_of(url, name=service))
    from torpor.adapters.nats.broker import JetStreamBroker
    from torpor.adapters.nats.options import JetStreamOptions

    return lambda service: JetStreamBroker(JetStreamOptions(servers=url, name=service))


def _store_of(plan: Plan, settings: Settings, *, broker: Broker, clock: Clock) -> Store:
    if settings.database_url is None:
        from torpor.adapters.direct.store import DirectStore

        return DirectStore(broker, plan.name)
    return _open_store(settings.database_url, plan.name, clock)


def _open_store(database_url: str, service: str, clock: Clock) -> Store:
    url = database_url.replace("{service}", service)
    if url.startswith("postgresql:"):
        return _open_postgres(url, clock)
    from torpor.adapters.sqlite.store import SqliteStore

    if url.startswith("memory:"):
        return SqliteStore(":memory:", clock)
    path = unquote(urlsplit(url).path)
    return SqliteStore(path.removeprefix("/") if not path.startswith("//") else path[1:], clock)


def _open_postgres(url: str, clock: Clock) -> Store:
    """The store of a URL whose query may say `schema`, `connections` and `pooled`; the rest is the driver's."""
    try:
        from torpor.adapters.postgres.options import PostgresOptions
        from torpor.adapters.postgres.store import PostgresStore
    except ImportError as error:
        raise ConfigurationError(["postgresql:// needs asyncpg. Install torpor[postgres]."]) from error
    place, _, query = url.partition("?")
    given = dict(parse_qsl(query))
    connections = given.pop("connections", "4")
    if not connections.isdigit():
        raise ConfigurationError([f"TORPOR_DATABASE_URL has connections={connections!r}. Expected a number."])
    options = PostgresOptions(
        schema=given.pop("schema", "public"),
        connections=int(connections),
        is_pooled=given.pop("pooled", "no") in {"1", "yes", "true"},
    )
    return PostgresStore(f"{place}?{urlencode(given)}" if given else place, clock, options)


def _app(deployment: Deployment) -> Any:
    from torpor.adapters.http.app import build_app

    def asyncapi() -> dict[str, Any]:
        from torpor.adapters.asyncapi.document import document

        title = ", ".join(plan.name for plan in deployment.plans)
        return document(deployment.plans, title, version=__version__, broker_url=deployment.settings.broker_url)

    def metrics() -> tuple[bytes, str]:
        from torpor.adapters.prometheus.exposition import render

        return render(deployment.hosts)

    return build_app(
        deployment.hosts,
        body_limit=deployment.settings.body_limit,
        asyncapi=asyncapi,
        metrics=metrics,
        topology=topology_of(deployment.plans).to_dict,
        version=__version__,
    )
