"""The topology: who publishes and who listens to what, known without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.contract.event import Contract
    from torpor.runtime.plan import Handled, Plan


class TopicUse:
    """One topic: its contracts, who publishes it, who listens to it."""

    __slots__ = ("contracts", "listeners", "name", "publishers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.contracts: set[type[Contract]] = set()
        self.publishers: list[str] = []
        self.listeners: list[str] = []


class Topology:
    """The services of a deployment and the topics between them."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = tuple(plans)
        self.topics: dict[str, TopicUse] = {}
        for plan in self.plans:
            for handled in plan.handlers:
                for contract in handled.publishes:
                    use = self._use(contract, contract.__torpor_topic__ or "")
                    use.publishers.append(handled.name)
            for binding in plan.subscribers:
                self._use(binding.contract, binding.topic).listeners.append(binding.handled.name)

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
        for use in self.topics.values():
            handlers = sorted({name.partition(".")[0] for name in use.listeners})
            if len(handlers) > 1 and any(contract.__torpor_is_command__ for contract in use.contracts):
                found.append(
                    f"The command on {use.name!r} is handled by {' and '.join(handlers)}. "
                    "A command has one handler; use an Event to tell many."
                )
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
                }
                for use in sorted(self.topics.values(), key=lambda use: use.name)
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
        return "\n".join(lines) + "\n"


def topology_of(plans: Sequence[Plan]) -> Topology:
    """The topology of services that are deployed together."""
    return Topology(plans)


def _node(name: str) -> str:
    return name.replace("-", "_")


def _service(plan: Plan) -> dict[str, Any]:
    listens = [
        {**_handler(b.handled), "topic": b.topic, "group": b.group, "event": b.contract.__name__}
        for b in plan.subscribers
    ]
    routes = [{**_handler(b.handled), "method": b.method, "path": b.path} for b in plan.routes]
    ticks = [{**_handler(b.handled), "schedule": repr(b.schedule)} for b in plan.tickers]
    return {"name": plan.name, "subscribers": listens, "routes": routes, "schedules": ticks}


def _handler(handled: Handled) -> dict[str, Any]:
    return {"name": handled.name, "publishes": sorted(contract.__name__ for contract in handled.publishes)}
