"""The topology: who publishes and who listens to what, known without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.contract.event import Contract
    from torpor.kernel.topic import Topic
    from torpor.runtime.plan import Handled, Plan, RouteBinding, SocketBinding


class TopicUse:
    """One topic: its contracts, who publishes it, who listens to it."""

    __slots__ = ("contracts", "listeners", "name", "publishers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.contracts: set[type[Contract]] = set()
        self.publishers: list[str] = []
        self.listeners: list[str] = []


class RequestUse:
    """One topic of requests: their contracts, who asks them, who answers them."""

    __slots__ = ("answerers", "askers", "contracts", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.contracts: set[type[Contract]] = set()
        self.askers: list[str] = []
        self.answerers: list[str] = []

    @property
    def told(self) -> str:
        """Its contracts, for a message."""
        return " and ".join(sorted(contract.__name__ for contract in self.contracts))


class Topology:
    """The services of a deployment and the topics between them."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = tuple(plans)
        self.topics: dict[str, TopicUse] = {}
        self.requests: dict[str, RequestUse] = {}
        for plan in self.plans:
            for handled in plan.handlers:
                for contract in handled.publishes:
                    use = self._use(contract, contract.__torpor_topic__ or "")
                    use.publishers.append(handled.name)
            for binding in (*plan.subscribers, *plan.listeners):
                self._use(binding.contract, binding.topic).listeners.append(binding.handled.name)

            for handled in plan.handlers:
                for contract in handled.asks:
                    self._request(contract).askers.append(handled.name)
            for answerer in plan.answerers:
                self._request(answerer.contract).answerers.append(answerer.handled.name)

    def _request(self, contract: type[Contract]) -> RequestUse:
        topic = contract.__torpor_topic__ or ""
        use = self.requests.setdefault(topic, RequestUse(topic))
        use.contracts.add(contract)
        return use

    def _use(self, contract: type[Contract], topic: str) -> TopicUse:
        use = self.topics.setdefault(topic, TopicUse(topic))
        use.contracts.add(contract)
        return use

    def problems(self) -> list[str]:
        """What no single service can see: a command that two services handle, one service's name twice."""
        found = []
        names = [plan.name for plan in self.plans]
        found += [
            f"Two services are named {name!r}. Rename one." for name in sorted({n for n in names if names.count(n) > 1})
        ]
        found += self._routes_taken_twice()
        found += self._wishes_that_cannot_be()
        found += self._mixed()
        for use in self.topics.values():
            handlers = sorted({name.partition(".")[0] for name in use.listeners})
            if len(handlers) > 1 and any(contract.__torpor_is_command__ for contract in use.contracts):
                found.append(
                    f"The command on {use.name!r} is handled by {' and '.join(handlers)}. "
                    "A command has one handler; use an Event to tell many."
                )
        return found

    def _wishes_that_cannot_be(self) -> list[str]:
        if not any(plan.service.topics for plan in self.plans):
            return []
        from torpor.kernel.topic import Topic  # late: most services wish nothing

        found = []
        taken: dict[str, tuple[str, Topic]] = {}
        for plan in self.plans:
            known = {*plan.topics, f"{plan.name}.parked"}
            given: list[Any] = [*plan.service.topics]
            strangers = [wish for wish in given if not isinstance(wish, Topic)]
            found += [f"Service {plan.name!r} has {wish!r} in topics. Give a Topic(...)." for wish in strangers]
            for wish in (wish for wish in given if isinstance(wish, Topic)):
                if wish.name not in known:
                    hint = did_you_mean(wish.name, known)
                    found.append(
                        f"Service {plan.name!r} wishes {wish!r}, and neither publishes nor listens to it.{hint}"
                    )
                other, former = taken.setdefault(wish.name, (plan.name, wish))
                if former is not wish and (other == plan.name or former.settings() != wish.settings()):
                    found.append(
                        f"Service {plan.name!r} wishes {wish!r}, and {other!r} wishes {former!r}. "
                        "Wish it once, best where it is published."
                    )
                if wish.compacted:
                    found += self._without_key(wish)
        return found

    def _without_key(self, wish: Topic) -> list[str]:
        """A compacted topic takes no message without a key."""
        use = self.topics.get(wish.name)
        contracts = sorted(use.contracts, key=lambda contract: contract.__name__) if use else []
        return [
            f"{contract.__name__} has no key, and its topic {wish.name!r} is compacted, which takes no message without "
            "one. Give it key=, or drop compacted."
            for contract in contracts
            if contract.__torpor_key__ is None
        ]

    def notes(self) -> list[str]:
        """What may be meant so, and is worth a word: requests that nobody here answers."""
        return [
            f"{', '.join(sorted(use.askers))} asks {use.told}, and no service here answers it on {use.name!r}."
            for use in sorted(self.requests.values(), key=lambda use: use.name)
            if not use.answerers
        ]

    def _mixed(self) -> list[str]:
        """Requests with two answers, and topics of more than one kind."""
        found = []
        for request in self.requests.values():
            services = sorted({name.partition(".")[0] for name in request.answerers})
            if len(services) > 1:
                found.append(f"{request.told} is answered by {' and '.join(services)}. A request has one answerer.")
            if request.name in self.topics:
                found.append(f"{request.name!r} is a topic of requests and of events. Give one of them another topic.")
        for use in self.topics.values():
            if len({contract.__torpor_durable__ for contract in use.contracts}) > 1:
                names = " and ".join(sorted(contract.__name__ for contract in use.contracts))
                found.append(f"{names} share the topic {use.name!r}, and only some are durable. Part them.")
        return found

    def _routes_taken_twice(self) -> list[str]:
        found = []
        taken: dict[tuple[str, str], Handled] = {}
        for plan in self.plans:
            for route in plan.routes:
                other = taken.setdefault((route.method, route.path), route.handled)
                if other.service != plan.name:
                    found.append(
                        f"{route.handled.name!r} ({route.handled.location}) answers {route.method} {route.path}, "
                        f"and so does {other.name!r} ({other.location}). Change one path, or give one service a prefix."
                    )
        return found

    def to_dict(self) -> dict[str, Any]:
        """The topology as JSON: services with their handlers, topics with both ends."""
        return {
            "services": [_service(plan) for plan in self.plans],
            "topics": [
                {
                    "topic": use.name,
                    "contracts": sorted(contract.__name__ for contract in use.contracts),
                    "publishers": sorted(use.publishers),
                    "listeners": sorted(use.listeners),
                    "durable": all(contract.__torpor_durable__ for contract in use.contracts),
                }
                for use in sorted(self.topics.values(), key=lambda use: use.name)
            ],
            "requests": [
                {
                    "topic": use.name,
                    "contracts": sorted(contract.__name__ for contract in use.contracts),
                    "askers": sorted(use.askers),
                    "answerers": sorted(use.answerers),
                }
                for use in sorted(self.requests.values(), key=lambda use: use.name)
            ],
        }

    def to_mermaid(self) -> str:
        """The topology as a Mermaid flowchart: services as boxes, topics as the arrows between them."""
        lines = ["flowchart LR"]
        lines += [f"    {_node(plan.name)}[{plan.name}]" for plan in self.plans]
        for use in sorted(self.topics.values(), key=lambda use: use.name):
            senders = sorted({name.partition(".")[0] for name in use.publishers}) or ["outside"]
            takers = sorted({name.partition(".")[0] for name in use.listeners}) or ["nobody"]
            lines += [f"    {_node(a)} -->|{use.name}| {_node(b)}" for a in senders for b in takers]
        for request in sorted(self.requests.values(), key=lambda use: use.name):
            askers = sorted({name.partition(".")[0] for name in request.askers}) or ["outside"]
            answerers = sorted({name.partition(".")[0] for name in request.answerers}) or ["nobody"]
            lines += [f"    {_node(a)} <-.->|{request.name}| {_node(b)}" for a in askers for b in answerers]
        return "\n".join(lines) + "\n"


def topology_of(plans: Sequence[Plan]) -> Topology:
    """The topology of services that are deployed together."""
    return Topology(plans)


def _node(name: str) -> str:
    return name.replace("-", "_")


def _service(plan: Plan) -> dict[str, Any]:
    listens = [
        {**_handler(b.handled), "topic": b.topic, "group": b.group, "event": b.contract.__name__}
        for b in (*plan.subscribers, *plan.listeners)
    ]
    answers = [{**_handler(b.handled), "topic": b.topic, "request": b.contract.__name__} for b in plan.answerers]
    routes = [_route(binding) for binding in plan.routes]
    ticks = [{**_handler(b.handled), "schedule": repr(b.schedule)} for b in plan.tickers]
    told = {"name": plan.name, "subscribers": listens, "answers": answers, "routes": routes, "schedules": ticks}
    sockets = [_socket(binding) for binding in plan.sockets]
    return {**told, "sockets": sockets} if sockets else told


def _route(binding: RouteBinding) -> dict[str, Any]:
    told = {**_handler(binding.handled), "method": binding.method, "path": binding.path}
    rules = binding.access.rules
    if rules is None:
        return told
    from torpor.kernel.versioned import Versioned

    version = rules.of(Versioned)
    return told if version is None else {**told, "version": version.version}


def _socket(binding: SocketBinding) -> dict[str, Any]:
    publishes = {contract.__name__ for handler in binding.handlers for contract in handler.handled.publishes}
    return {"name": binding.handled.name, "path": binding.path, "publishes": sorted(publishes)}


def _handler(handled: Handled) -> dict[str, Any]:
    return {"name": handled.name, "publishes": sorted(contract.__name__ for contract in handled.publishes)}
