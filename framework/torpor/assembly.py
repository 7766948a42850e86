"""From settings to adapters. The only module that names adapters, and it imports them late."""

from __future__ import annotations

import asyncio
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from torpor import __version__
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.binding import bind
from torpor.runtime.fitting import rules_that_share, tell_of_sockets, unfit
from torpor.runtime.host import Duty, Host
from torpor.runtime.plan import Plan
from torpor.runtime.settings import BROKER, DATABASE, PULL, REPLAY_SECONDS, Settings
from torpor.runtime.topology import topology_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.adapters.http.answer import Answer, Answerer
    from torpor.adapters.http.counting import Counting
    from torpor.adapters.http.lean import Take
    from torpor.adapters.http.operations import Operations
    from torpor.adapters.http.push import PushEndpoint
    from torpor.adapters.http.sockets import SocketDoor
    from torpor.adapters.kafka.options import KafkaOptions
    from torpor.adapters.memory.broker import MemoryHub
    from torpor.adapters.nats.options import JetStreamOptions
    from torpor.kernel.auth import Auth, Way
    from torpor.kernel.topic import Topic
    from torpor.ports.broker import Broker
    from torpor.ports.clock import Clock
    from torpor.ports.exchange import Exchange
    from torpor.ports.shelf import Shelf
    from torpor.ports.store import Store
    from torpor.ports.topics import TopicAdmin
    from torpor.ports.verifier import Verifier
    from torpor.runtime.guard import Guard
    from torpor.runtime.host import Rest
    from torpor.runtime.service import Service


class Deployment:
    """Services that run together: in one process, behind one address."""

    def __init__(self, plans: Sequence[Plan], settings: Settings, *, hosts: Sequence[Host]) -> None:
        self.plans = tuple(plans)
        self.settings = settings
        self.hosts = tuple(hosts)
        self._app: Any = None
        self._sockets: SocketDoor | None = None
        self._counting: Counting | None = None

    @property
    def app(self) -> Any:
        """The ASGI application of all the services, made on first use."""
        if self._app is None:
            self._app = _app(self)
        return self._app

    @property
    def sockets(self) -> SocketDoor | None:
        """The door for the WebSockets of all the services; None when they take none."""
        if self._sockets is None and any(plan.sockets for plan in self.plans):
            from torpor.adapters.http.sockets import SocketDoor

            self._sockets = SocketDoor(self.hosts, guards(self.hosts[0].clock), self.counting)
        return self._sockets

    @property
    def counting(self) -> Counting:
        """What the limits of routes and sockets have counted, made on first use."""
        if self._counting is None:
            from torpor.adapters.http.counting import Counting

            self._counting = Counting()
        return self._counting

    async def migrate(self) -> Mapping[str, Sequence[str]]:
        """Brings each service's tables up to date; returns what was applied."""
        return {host.name: await host.store.migrate(host.plan.service.migrations()) for host in self.hosts}

    async def start(self) -> None:
        """Starts the services; they come up in the background."""
        if (self.settings.database_url or "").startswith("memory:"):
            await self.migrate()
        if not self.settings.is_push:
            self._acquaint()
        for host in self.hosts:
            await host.start()

    def _acquaint(self) -> None:
        """Tells each host who hears what it publishes."""
        from torpor.runtime.provision import need_of

        groups = need_of(self.plans).subscriptions
        for host in self.hosts:
            host.groups = [group for group in groups if group.topic in host.plan.topics]

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
    return _assemble(plans_of(services), settings, lambda plan: _duties_of(plan, settings))


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
        super().__init__(plan.service)
        self._topics = plan.topics

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the handlers."""
        return self._topics


def _assemble(plans: Sequence[Plan], settings: Settings, duties: Callable[[Plan], Sequence[Duty]]) -> Deployment:
    from torpor.adapters.system.clock import SystemClock

    if problems := unfit(plans, settings):
        raise ConfigurationError(problems)
    tell_of_sockets(plans, settings)
    clock = SystemClock()
    brokers = partial(_brokers, settings, {wish.name: wish for plan in plans for wish in plan.service.topics})
    hosts = []
    opened = cache(brokers)
    if settings.is_push and settings.broker_url is not None:
        _check_broker(settings.broker_url)
    for plan in plans:
        broker = _late_broker(opened, plan.name) if settings.is_push else opened()(plan.name)
        store = _store_of(plan, settings, broker=broker, clock=clock)
        hosts.append(_host(plan, settings, broker=broker, store=store, clock=clock, duties=duties(plan)))
    return Deployment(plans, settings, hosts=hosts)


def _late_broker(opened: Callable[[], Callable[[str], Broker]], service: str) -> Broker:
    """A broker of which nothing is imported before something is published."""
    from torpor.runtime.late import LateBroker

    return LateBroker(lambda: opened()(service))


def _check_broker(url: str) -> None:
    """Tells what is wrong with a broker's URL whose broker is made late. Its client is not imported for that, and
    what reads its options only when it has some."""
    is_kafka = url.startswith("kafka:")
    if url.startswith("memory:"):
        return
    if is_kafka:
        _need_kafka()
    if not _is_plain(url):
        (_kafka_options if is_kafka else _nats_options)(url, {})


def _is_plain(url: str) -> bool:
    """Whether a URL has hosts and ports, and nothing that could be wrong."""
    for place in url.partition("://")[2].split(","):
        host, _, port = place.partition(":")
        is_host = host.isascii() and host.replace("-", "").replace(".", "").isalnum()
        if not is_host or (port and not (port.isdecimal() and 0 < int(port) < 65_536)):
            return False
    return True


def _need_kafka() -> None:
    from importlib.util import find_spec

    if find_spec("aiokafka") is None:
        raise ConfigurationError(["kafka:// needs FastStream and aiokafka. Install torpor[kafka]."])


def _duties_of(plan: Plan, settings: Settings) -> Sequence[Duty]:
    """The background work: at once for one that consumes, when it is needed for one that wakes for a push."""
    if not settings.is_push:
        return duties_of(plan, settings)
    from torpor.runtime.postponed import Postponed

    return [Postponed(partial(duties_of, plan, settings))]


def _host(
    plan: Plan, settings: Settings, *, broker: Broker, store: Store, clock: Clock, duties: Sequence[Duty]
) -> Host:
    """A host that consumes, or one that is handed its messages."""
    rest = rest_of(duties) if settings.is_push else None
    exchange: Exchange | None = getattr(broker, "exchange", None) if plan.uses_exchange or plan.sockets else None
    host = Host(plan, broker=broker, store=store, clock=clock, duties=duties, exchange=exchange, rest=rest)
    if rules_that_share(plan):
        host.share(_shelf_of(settings, broker=broker, store=store, clock=clock))
    return host


def _shelf_of(settings: Settings, *, broker: Broker, store: Store, clock: Clock) -> Shelf:
    """Where the replicas of a service share what they share."""
    place: Any = {BROKER: broker, DATABASE: store}.get(settings.shared)
    shelf: Shelf | None = getattr(place, "shelf", None)
    if shelf is None:  # a broker in memory has one process as well
        from torpor.adapters.memory.shelf import MemoryShelf

        shelf = MemoryShelf(clock)
    return shelf


def rest_of(duties: Sequence[Duty]) -> Rest:
    """What a push waits for before it is answered: the relay."""
    rests: list[Rest] = [duty.rest for duty in duties if hasattr(duty, "rest")]

    async def rest(host: Host) -> None:
        for one in rests:
            await one(host)

    return rest


def assemble_in_memory(
    services: Sequence[Service], *, hub: MemoryHub, clock: Clock, delivery: str = PULL
) -> Deployment:
    """Services on one broker in memory, each with a SQLite database in memory: what a test runs on."""
    from torpor.adapters.memory.broker import MemoryBroker
    from torpor.adapters.sqlite.store import SqliteStore

    memory = dict.fromkeys(("TORPOR_BROKER_URL", "TORPOR_DATABASE_URL"), "memory://")
    settings = Settings.read({**memory, "TORPOR_DELIVERY": delivery})
    plans = plans_of(services)
    hosts = [
        _host(
            plan,
            settings,
            broker=MemoryBroker(hub),
            store=SqliteStore(":memory:", clock),
            clock=clock,
            duties=duties_of(plan),
        )
        for plan in plans
    ]
    return Deployment(plans, settings, hosts=hosts)


def duties_of(plan: Plan, settings: Settings | None = None) -> list[Duty]:
    """The background work that a service needs: the keeper's, and what each process does for its handlers."""
    from torpor.features.redrive import Redriver

    settings = settings or Settings.read({})
    duties: list[Duty] = [*keeper_duties(settings.replay_seconds), Redriver()]
    if plan.subscribers:
        from torpor.features.watcher import Watcher

        duties.append(Watcher(settings.stuck_seconds))
    if plan.tickers:
        from torpor.features.ticking import Ticker

        duties.append(Ticker())
    return duties


def keeper_duties(replay_seconds: float = REPLAY_SECONDS) -> list[Duty]:
    """The background work that one process at a time does for a database, under one lease."""
    from torpor.features.cleanup import Cleanup
    from torpor.features.hinting import Hinter
    from torpor.features.relay import Relay
    from torpor.features.timers import Timekeeper
    from torpor.runtime.lease import Lease

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


def open_topics(settings: Settings) -> TopicAdmin | None:
    """What a deploy does with the topics of a broker, not yet started; None when that is in memory."""
    url = settings.broker_url
    if url is None:
        raise ConfigurationError(
            ["TORPOR_BROKER_URL is not set. Set it to the broker of the topics, for example kafka://localhost:9092."]
        )
    if url.startswith("memory:"):
        return None
    if url.startswith("kafka:"):
        options = _kafka_options(url, {})
        from torpor.adapters.kafka.administration import KafkaTopicAdmin

        return KafkaTopicAdmin(options("torpor-topics"))
    from torpor.adapters.nats.administration import JetStreamTopicAdmin

    return JetStreamTopicAdmin(_nats_options(url, {})("torpor-topics"))


def _brokers(settings: Settings, wishes: Mapping[str, Topic]) -> Callable[[str], Broker]:
    """How each service gets its broker."""
    url = settings.broker_url or "memory://"
    if url.startswith("memory:"):
        from torpor.adapters.memory.broker import MemoryBroker, MemoryHub

        hub = MemoryHub()
        return lambda service: MemoryBroker(hub)  # noqa: ARG005  # all share one hub
    if url.startswith("kafka:"):
        kafka = _kafka_options(url, wishes)
        from torpor.adapters.kafka.broker import KafkaBroker

        return lambda service: KafkaBroker(kafka(service))
    nats = _nats_options(url, wishes)
    from torpor.adapters.nats.broker import JetStreamBroker

    return lambda service: JetStreamBroker(nats(service))


def _kafka_options(url: str, wishes: Mapping[str, Topic]) -> Callable[[str], KafkaOptions]:
    """How each service reaches Kafka."""
    from dataclasses import replace

    from torpor.adapters.kafka.options import options_of

    _need_kafka()
    options_of(url, name="torpor")  # tells what is wrong with it
    return lambda service: replace(options_of(url, name=service), topics=wishes)


def _nats_options(url: str, wishes: Mapping[str, Topic]) -> Callable[[str], JetStreamOptions]:
    """How each service reaches NATS."""
    from dataclasses import replace

    from torpor.adapters.nats.options import options_of

    options_of(url, name="torpor")  # tells what is wrong with it
    return lambda service: replace(options_of(url, name=service), topics=wishes)


def _store_of(plan: Plan, settings: Settings, *, broker: Broker, clock: Clock) -> Store:
    if settings.database_url is None:
        from torpor.adapters.direct.store import DirectStore

        return DirectStore(broker, plan.name, parks=not settings.is_push)
    return _open_store(settings.database_url, plan.name, clock)


def _open_store(database_url: str, service: str, clock: Clock) -> Store:
    url = database_url.replace("{service}", service)
    if url.startswith("postgresql:"):
        return _open_postgres(url, clock)
    from torpor.adapters.sqlite.store import SqliteStore

    if url.startswith("memory:"):
        return SqliteStore(":memory:", clock)
    path = url.partition(":")[2].partition("#")[0].partition("?")[0]
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    return SqliteStore(path.removeprefix("/") if not path.startswith("//") else path[1:], clock)


def _open_postgres(url: str, clock: Clock) -> Store:
    """The store of a URL whose query may say `schema`, `connections` and `pooled`; the rest is the driver's."""
    try:
        from torpor.adapters.postgres.options import PostgresOptions
        from torpor.adapters.postgres.store import PostgresStore
    except ImportError as error:
        raise ConfigurationError(["postgresql:// needs asyncpg. Install torpor[postgres]."]) from error
    from urllib.parse import parse_qsl, urlencode

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


def asyncapi_of(plans: Sequence[Plan], settings: Settings, title: str | None = None) -> dict[str, Any]:
    """The AsyncAPI document of services on the broker of the settings."""
    from torpor.adapters.asyncapi.document import document

    named = title or ", ".join(plan.name for plan in plans)
    web = f"localhost:{settings.http_port}"
    return document(plans, named, version=__version__, broker_url=settings.broker_url, web=web)


def _app(deployment: Deployment) -> Any:
    from torpor.adapters.http.app import build_app

    return build_app(
        deployment.hosts,
        operations=_operations(deployment),
        guard_of=guards(deployment.hosts[0].clock) if deployment.hosts else None,
        body_limit=deployment.settings.body_limit,
        push=_push_endpoint(deployment) if deployment.settings.is_push else None,
        counting=deployment.counting,
        version=__version__,
    )


def answerers_of(deployment: Deployment) -> tuple[Answerer, Take | None]:
    """What a deployment without routes answers, and who takes its events."""
    from torpor.adapters.http.push import EVENTS

    push = _push_endpoint(deployment) if deployment.settings.is_push else None
    operations = cache(partial(_operations, deployment))  # late: the first event does not ask

    async def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        is_pushed = push is not None and (path == "/" or path.startswith(EVENTS))
        answering = push.answer if push is not None and is_pushed else operations().answer
        return await answering(method, path, headers, body)

    return answer, None if push is None else push.take


def _operations(deployment: Deployment) -> Operations:
    from torpor.adapters.http.operations import Operations

    def asyncapi() -> dict[str, Any]:
        return asyncapi_of(deployment.plans, deployment.settings)

    def metrics() -> tuple[bytes, str]:
        from torpor.adapters.prometheus.exposition import render

        return render(deployment.hosts)

    topology = topology_of(deployment.plans).to_dict
    return Operations(deployment.hosts, asyncapi=asyncapi, metrics=metrics, topology=topology)


def guards(clock: Clock) -> Callable[[Auth], Guard]:
    """What holds an `Auth` against requests. An issuer's keys are kept once, however many routes ask for them."""
    from importlib.util import find_spec

    from torpor.kernel.auth import JwtWay
    from torpor.runtime.guard import Guard, own_verifier

    verifiers: dict[Way, Verifier] = {}

    def verifier_of(way: Way) -> Verifier:
        if way not in verifiers:
            if isinstance(way, JwtWay):
                from torpor.adapters.jwt.verifier import JwtVerifier

                if find_spec("jwt") is None or find_spec("cryptography") is None:
                    raise ConfigurationError(["Jwt needs PyJWT and cryptography. Install torpor[auth]."])
                verifiers[way] = JwtVerifier(way, clock)
            else:
                verifiers[way] = own_verifier(way)
        return verifiers[way]

    return lambda auth: Guard(auth, verifier_of)


def _push_endpoint(deployment: Deployment) -> PushEndpoint:
    from torpor.adapters.http.push import PushEndpoint

    settings, guard = deployment.settings, None
    if settings.push_issuer and settings.push_audience:
        from torpor.kernel.auth import Jwt

        guard = guards(deployment.hosts[0].clock)(Jwt(settings.push_issuer, settings.push_audience))
    return PushEndpoint(deployment.hosts, origins=settings.push_origins, guard=guard)
